"""Measured beside predicted, of everything that was measured of a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibrating.beside import Row, beside, markdown
from experiments.witness.served import predicting
from experiments.witness.served.curve import curve_rows
from experiments.witness.served.figures import METRICS, predicted
from experiments.witness.served.host import HostTimes

FILES = {"served": "no", "cached": "yes"}
"""Names of files, and whether the server had its prefix cache."""
KEYS = ("prefix cache", "traffic")


def rows_of(data: predicting.Data, caching: str) -> list[Row]:
    """Return a row for each run and figure."""
    prices = predicting.prices_of(data)
    again = {traffic_of(run): run["figures"] for run in data["runs"] if run["again"]}
    rows = []
    for run in data["runs"]:
        if not run["again"]:
            traffic = traffic_of(run)
            setting = {"prefix cache": caching, "traffic": traffic}
            at_s = [one["at_s"] for one in run["samples"]]
            simulated = predicted(predicting.simulated(data, run, prices), at_s)
            rows += beside(setting, run["figures"], again[traffic], simulated, METRICS)
    return rows


def traffic_of(run: predicting.Data) -> str:
    """Return how hard a run drives the server, in words."""
    if run["streams"] is not None:
        return f"{run['streams']} streams"
    return f"{run['load']:.0%} load"


def read(path: Path) -> dict[str, Any]:
    """Read what was measured."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def pages(folder: Path) -> str:
    """Return the tables of a folder.

    Raises:
        FileNotFoundError: nothing was measured there.
    """
    found = []
    for name, caching in FILES.items():
        if (folder / f"{name}.json").is_file():
            data = read(folder / f"{name}.json")
            found += [*markdown(rows_of(data, caching), KEYS), "", *host_lines(data), ""]
    if (folder / "curve.json").is_file():
        found += curve_rows(read(folder / "curve.json"))
    if not found:
        raise FileNotFoundError(f"{folder} holds nothing that headroom witness serve has written")
    return "\n".join(found)


def host_lines(data: predicting.Data) -> list[str]:
    """Return what the server spends outside its steps, as a table."""
    calibration = predicting.calibration_of(data)
    times: HostTimes = predicting.host_of(data, calibration)
    residuals = calibration.residuals
    assert residuals is not None
    errors = f"{residuals.mean_absolute:.1%} in the mean, {residuals.worst_absolute:.1%} at worst"
    drift = np.mean([one["seconds"] for one in data["steps"][-1]]) / np.mean(
        [one["seconds"] for one in data["steps"][0]]
    )
    told = {
        "between two steps": times.step_s, "the same for each sequence": times.sequence_s,
        "engine, for each request that comes": times.engine_request_s,
        "way in of a request": times.request_s, "for each token of its prompt": times.token_s,
        "API server's loop, for a request": times.loop_request_s,
        "for each token of its prompt, there": times.loop_token_s,
        "for each step whose tokens it sends": times.loop_step_s,
        "for each token sent": times.loop_output_s,
    }  # fmt: skip
    if "runs" in data:
        request_s, token_s = predicting.client_s(data, times)
        told |= {"bench client, for a request": request_s, "for each token received": token_s}
    return [
        f"Steps that were not fitted: {errors}; timed again afterwards: {drift - 1:+.1%}.",
        "",
        "| outside the steps | us |",
        "|---|---|",
        *(f"| {name} | {1e6 * seconds:.1f} |" for name, seconds in told.items()),
    ]
