"""The files of a validation."""

import argparse
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.identity import code_digest, file_digest, machine, versions
from experiments.validation.parity import draw_parity
from experiments.validation.predict import Prediction
from experiments.validation.rows import Skipped
from experiments.validation.tables import (
    assumptions_table,
    errors_table,
    skipped_table,
    summary_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame

DIGITS = "%.6g"


def write_results(
    folder: Path,
    predictions: Sequence[Prediction],
    skipped: Sequence[Skipped],
    ablation: "DataFrame | None",
    options: argparse.Namespace,
) -> "DataFrame":
    """Write every file into a new folder; return the summary."""
    import pandas as pd

    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
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
    manifest = {
        "runs": str(options.runs),
        "runs_sha256": file_digest(options.runs),
        "only": options.only,
        "seeds": options.seeds,
        "calibrations": calibrations,
        "calibration_draws": options.calibration_draws,
        "rows_predicted": len(predictions),
        "rows_skipped": len(skipped),
        "versions": versions(),
        "code_sha256": code_digest(),
        "machine": machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return summary
