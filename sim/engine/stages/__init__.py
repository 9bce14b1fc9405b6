"""An engine with pipeline stages: several steps are under way at a time."""

from hardware.compiled import choose

choose(__path__[0])
