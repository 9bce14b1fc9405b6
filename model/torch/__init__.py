"""The real decoder: all that imports torch."""
