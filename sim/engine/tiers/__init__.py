"""Tiers of the KV cache below the GPU: what is copied there, found there and dropped."""

from hardware.compiled import choose

choose(__path__[0])
