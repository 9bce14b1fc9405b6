"""Measured runs of real engines, predicted: what ``python -m experiments.validate`` is made of."""
