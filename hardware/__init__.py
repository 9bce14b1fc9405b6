"""How long a step takes on which GPU, and how many KV blocks fit."""
