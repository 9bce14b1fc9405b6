"""``python -m experiments.run``: see ``experiments.cli.run``."""

from experiments.cli.headroom import begin

if __name__ == "__main__":
    begin("run")
