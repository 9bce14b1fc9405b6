"""One serving engine, step by step: who computes what, when each step ends, what became of whom.

Plain typed Python without numpy, so that it can be compiled (see ``hardware.compiled``): compiled
or not, it gives the same bytes. It knows no clock: whoever owns the time asks for steps.
"""

from hardware.compiled import choose

choose(__path__[0])
