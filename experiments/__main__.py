"""``python -m experiments COMMAND``: what ``headroom COMMAND`` is, without an installation."""

from experiments.cli.headroom import begin

if __name__ == "__main__":
    begin()
