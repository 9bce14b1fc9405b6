"""What a decoder is: its parameters, and the FLOPs and bytes of its steps. Knows no GPU."""
