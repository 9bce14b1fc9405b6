"""Speed and memory of the simulator itself. Run with ``python -m benchmarks``."""
