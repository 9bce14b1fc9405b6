"""vLLM itself as the witness: its scheduler beside ours, release by release (docs/witness.md)."""
