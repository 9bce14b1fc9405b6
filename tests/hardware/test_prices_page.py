"""docs/prices.md has the errors that the bundled calibrations state of themselves."""

from pathlib import Path

import pytest

from hardware.calibration import load_calibration
from hardware.prices.lookup import DOUBTED

ROOT = Path(__file__).parents[2]
CALIBRATIONS = ROOT / "hardware" / "calibrations"
GPUS = {
    "A100": "a100-80gb-sxm", "H100": "h100-sxm", "H200": "h200-sxm", "B200": "b200-sxm",
    "B300": "b300-sxm", "GB200": "gb200", "GB300": "gb300", "L40S": "l40s",
    "RTX PRO 6000": "rtx-pro-6000",
}  # fmt: skip
TABLE = (ROOT / "docs" / "prices.md").read_text(encoding="utf-8").partition("| operator | A100")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.partition("\n\n")[0].splitlines()[2:]
]


def test_every_calibration_has_a_column() -> None:
    assert sorted(path.stem for path in CALIBRATIONS.glob("*.yaml")) == sorted(GPUS.values())


@pytest.mark.parametrize("gpu", GPUS)
def test_errors_of_kernels_left_out(gpu: str) -> None:
    """Bold is what a reader of a study is told of."""
    kernels = load_calibration(CALIBRATIONS / f"{GPUS[gpu]}.yaml").kernels
    assert kernels is not None
    place = list(GPUS).index(gpu) + 1
    told = {row[0]: row[place] for row in ROWS if row[place] != "-"}
    # All-reduces are those with NCCL's times, which were fitted last.
    known = {name: check.median for name, check in kernels.held_out.items() if name != "all-reduce"}
    known = {name.replace("all_reduce", "all-reduce"): value for name, value in known.items()}
    bold = {name: "**" if value > DOUBTED else "" for name, value in known.items()}
    assert told == {
        name: f"{bold[name]}{100 * value:.1f}{bold[name]}" for name, value in known.items()
    }
