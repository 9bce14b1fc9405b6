"""How long a step takes on which GPU, and how many KV blocks fit."""

from hardware.compiled import choose

choose(__path__[0])
