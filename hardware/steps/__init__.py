"""The price of a step, and the tables that it is read from."""

from hardware.compiled import choose

choose(__path__[0])
