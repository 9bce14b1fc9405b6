"""``headroom list``: the studies that come with headroom."""

from collections.abc import Sequence

from experiments.cli.command import Parser, called, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Print the name of every bundled study, and what it asks."""
    parser = Parser(prog=called("list"), description=__doc__, allow_abbrev=False)
    return run_command(lambda _: print_studies(), parser, argv, "nothing else was to be done")


def print_studies() -> int:
    """Print a line for every bundled study; return the exit status."""
    from experiments.study.bundled import bundled_studies
    from experiments.study.yaml_source import parse_yaml

    for name, path in bundled_studies().items():
        data = parse_yaml(path.read_text(encoding="utf-8"), path.name).data
        about = data.get("description", "") if isinstance(data, dict) else ""
        print(f"{name:<28} {' '.join(str(about).split())}")
    return 0
