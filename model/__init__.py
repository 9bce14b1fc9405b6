"""What a decoder is: its parameters, and the FLOPs and bytes of its steps. Knows no GPU."""

import time

IMPORTED_NS = time.time_ns()
"""When this process began to import what it simulates with, in nanoseconds since 1970."""
