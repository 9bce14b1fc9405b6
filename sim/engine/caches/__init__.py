"""KV caches of an engine: blocks as counts, kept for others, or of several groups."""

from hardware.compiled import choose

choose(__path__[0])
