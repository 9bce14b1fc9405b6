"""What a run was worth: latencies, use of the hardware, limits kept, from recorded columns."""
