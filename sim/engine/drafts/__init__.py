"""Steps with drafts: how many are right, what they take, what they cost."""

from hardware.compiled import choose

choose(__path__[0])
