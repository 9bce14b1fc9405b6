"""What goes between GPUs: collectives, experts' tokens, rows of a pipeline."""
