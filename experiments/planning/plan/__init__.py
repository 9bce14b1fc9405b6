"""The cheapest deployment that keeps a risk: ``kind: plan``."""
