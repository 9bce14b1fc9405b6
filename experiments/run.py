"""``python -m experiments.run``: see ``experiments.cli.run``."""

from experiments.cli.command import start
from experiments.cli.run import main

if __name__ == "__main__":
    start(main)
