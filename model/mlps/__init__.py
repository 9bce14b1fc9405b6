"""What follows the mixer in a layer: one file per kind, see ``model.mlps.mlp``."""
