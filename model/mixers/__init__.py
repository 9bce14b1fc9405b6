"""What mixes tokens in a layer: one file per kind, see ``model.mixers.mixer``."""
