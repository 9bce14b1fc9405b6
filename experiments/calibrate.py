"""``python -m experiments.calibrate``: see ``experiments.cli.calibrate``."""

from experiments.cli.headroom import begin

if __name__ == "__main__":
    begin("calibrate")
