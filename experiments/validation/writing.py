"""The files of a validation."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.running.identity import code_digest, digest_of, file_digest
from experiments.running.versions import machine, versions
from experiments.validation.parity import PICTURES, draw_parity
from experiments.validation.per_request import PerRequestError, find_file
from experiments.validation.predict import Plan, Prediction
from experiments.validation.rows import Skipped, Table
from experiments.validation.tables import (
    assumptions_table,
    errors_table,
    skipped_table,
    summary_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame

DIGITS = "%.6g"
TABLES = ("errors", "summary", "skipped", "assumptions", "ablation")
FILES = frozenset(
    {
        "manifest.json",
        *(f"{name}.csv" for name in TABLES),
        *(f"parity_{name}.png" for name in PICTURES),
    }
)
"""Every file that a validation may leave."""


def write_results(
    folder: Path,
    predictions: Sequence[Prediction],
    skipped: Sequence[Skipped],
    ablation: "DataFrame | None",
) -> "DataFrame":
    """Write every file but the manifest into a folder; return the summary."""
    import pandas as pd

    errors = errors_table(predictions)
    summary = summary_table(predictions, errors)
    tables = {
        "errors": errors,
        "summary": summary,
        "skipped": skipped_table(skipped),
        "assumptions": assumptions_table(predictions),
        **({} if ablation is None else {"ablation": ablation}),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format=DIGITS)
    calibrations = sorted({one.calibration for one in predictions})
    about = pd.DataFrame(
        {
            "run_id": [one.row.run_id for one in predictions],
            "dataset": [one.row.dataset or "unnamed" for one in predictions],
            "saturated": [one.saturated for one in predictions],
        }
    )
    note = f"calibration {', '.join(calibrations)}"
    if "none" in calibrations:
        note += " (none: NOT CALIBRATED, datasheet peaks)"
    if len(errors):
        draw_parity(errors, about, folder, note)
    return summary


def facts_of(
    predictions: Sequence[Prediction], skipped: Sequence[Skipped], options: argparse.Namespace
) -> dict[str, Any]:
    """Return what the manifest tells."""
    return {
        "runs": str(options.runs),
        "runs_sha256": _runs_digest(options.runs),
        "given": options.given,
        "only": options.only,
        "seeds": options.seeds,
        "calibrations": sorted({one.calibration for one in predictions}),
        "calibration_draws": options.calibration_draws,
        "rows_predicted": len(predictions),
        "rows_skipped": len(skipped),
        "versions": versions(),
        "code_sha256": code_digest(),
        "machine": machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def identity_of(table: Table, planned: Plan, options: argparse.Namespace) -> str:
    """Return a digest of all that the results depend on."""
    rows = [row for run in table.runs for row in run.rows]
    recorded = sorted({row.per_request_file for row in rows if row.per_request_file is not None})
    prices = sorted({task.calibration.model_dump_json() for task in planned.tasks})
    settings = (
        options.only, options.seeds, options.calibration_draws, options.ablation, options.given,
    )  # fmt: skip
    files = [_file_digest(table.folder, name) for name in recorded]
    return digest_of([_runs_digest(options.runs), files, prices, settings, code_digest()])


def _runs_digest(path: Path) -> str:
    """Of a file, or of all results in a folder."""
    if not path.is_dir():
        return file_digest(path)
    inside = sorted(path.rglob("*.json"))
    return digest_of([(str(one.relative_to(path)), file_digest(one)) for one in inside])


def _file_digest(folder: Path, name: str) -> str | None:
    try:
        return file_digest(find_file(folder, name))
    except (PerRequestError, OSError):  # its rows are skipped, and say why
        return None
