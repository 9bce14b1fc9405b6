"""``python -m experiments.validate``: see ``experiments.cli.validate``."""

from experiments.cli.command import start
from experiments.cli.validate import main

if __name__ == "__main__":
    start(main)
