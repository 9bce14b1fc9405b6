"""The memory of one GPU: what asks for it, and how many KV blocks fit in the rest."""
