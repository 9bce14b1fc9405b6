"""``python -m experiments.calibrate``: see ``experiments.calibrating.calibrate``."""

from experiments.calibrating.calibrate import main
from experiments.cli.command import start

if __name__ == "__main__":
    start(main)
