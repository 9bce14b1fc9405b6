"""``python -m experiments.validate``: see ``experiments.cli.validate``."""

from experiments.cli.headroom import begin

if __name__ == "__main__":
    begin("validate")
