"""``python -m experiments.reference``: see ``experiments.cli.reference``."""

from experiments.cli.command import start
from experiments.cli.reference import main

if __name__ == "__main__":
    start(main)
