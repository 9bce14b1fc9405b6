"""A live page on this machine: knobs of a study's point, and what becomes of it."""
