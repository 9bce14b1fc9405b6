"""The way of a request to an engine and back: client, router, API and what became of it."""

from hardware.compiled import choose

choose(__path__[0])
