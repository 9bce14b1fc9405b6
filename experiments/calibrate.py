"""``python -m experiments.calibrate``: see ``experiments.cli.calibrate``."""

from experiments.cli.calibrate import main
from experiments.cli.command import start

if __name__ == "__main__":
    start(main)
