"""The whole server of vLLM beside its simulation (docs/witness.md)."""
