"""How the weights of a checkpoint are stored: formats, the modules they hold for, who says so."""
