"""Families of checkpoints: one file each turns its config.json into layers, one row each here."""
