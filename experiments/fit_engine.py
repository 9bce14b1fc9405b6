"""``python -m experiments.fit_engine``: see ``experiments.cli.fit``."""

from experiments.cli.command import start
from experiments.cli.fit import main

if __name__ == "__main__":
    start(main)
