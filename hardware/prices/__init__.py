"""What matrix products, attention, small kernels and collectives cost: one protocol, two answers.

``hardware.prices.protocol`` says what a step asks, ``roofline`` answers from a GPU's peaks,
``measured`` from tables of kernels, and ``choose`` knows which a calibration gives.
"""
