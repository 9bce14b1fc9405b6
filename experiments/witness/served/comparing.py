"""Measured beside predicted, of everything that was measured of a server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.calibrating.beside import Row, beside, markdown, named
from experiments.witness.served import predicting
from experiments.witness.served.curve import curve_rows
from experiments.witness.served.figures import METRICS, predicted
from experiments.witness.served.host import HostTimes

if TYPE_CHECKING:
    from pandas import DataFrame

FILES = {"served": "no", "cached": "yes"}
"""Names of files, and whether the server had its prefix cache."""
KEYS = ("prefix cache", "traffic")
SHOWN = (
    "ttft_mean_s", "ttft_p50_s", "ttft_p99_s", "itl_mean_s", "tpot_mean_s", "tpot_p99_s",
    "e2e_mean_s", "e2e_p99_s", "request_throughput_per_s", "mean_running",
)  # fmt: skip


def rows_of(data: predicting.Data, caching: str) -> list[Row]:
    """Return a row for each run and figure."""
    again = {traffic_of(run): run["figures"] for run in data["runs"] if run["again"]}
    rows = []
    for run in data["runs"]:
        if not run["again"]:
            traffic = traffic_of(run)
            setting = {"prefix cache": caching, "traffic": traffic}
            at_s = [one["at_s"] for one in run["samples"]]
            simulated = predicted(predicting.simulated(data, run), at_s)
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
            rows = rows_of(data, caching)
            found += [*markdown(rows, KEYS, SHOWN), "", *values(rows), "", *host_lines(data), ""]
    if (folder / "curve.json").is_file():
        found += curve_rows(read(folder / "curve.json"))
    if not found:
        raise FileNotFoundError(f"{folder} holds nothing that headroom witness serve has written")
    return "\n".join(found)


def table(folder: Path) -> "DataFrame":
    """Return every figure of every run, measured and predicted."""
    import pandas as pd

    rows = []
    for name, caching in FILES.items():
        if (folder / f"{name}.json").is_file():
            rows += rows_of(read(folder / f"{name}.json"), caching)
    return pd.DataFrame(rows)


def values(rows: list[Row]) -> list[str]:
    """Return what was measured and what is predicted, a line for each figure."""
    traffics = list(dict.fromkeys(row["traffic"] for row in rows))
    lines = [f"| measured, again, predicted | {' | '.join(traffics)} |"]
    lines.append("|---" * (len(traffics) + 1) + "|")
    for metric in METRICS:
        label, factor = named(metric)
        cells = [
            ", ".join(f"{factor * row[key]:.3g}" for key in ("real", "real_again", "simulated"))
            for row in rows
            if row["metric"] == metric
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def host_lines(data: predicting.Data) -> list[str]:
    """Return what the server spends outside its steps, as a table."""
    times = HostTimes(**data["host"])
    residuals = predicting.prices_of(data).residuals
    assert residuals is not None
    errors = f"{residuals.mean_absolute:.1%} in the mean, {residuals.worst_absolute:.1%} at worst"
    told = {
        "between two steps": times.step_s, "the same for each sequence": times.sequence_s,
        "engine, for each request that comes": times.engine_request_s,
        "way in of a request, alone, of a light client": times.request_s,
        "for each token of its prompt": times.token_s,
        "API server's loop, for a request": times.loop_request_s,
        "for each token of its prompt, there": times.loop_token_s,
        "for each step whose tokens it sends": times.loop_step_s,
        "for each token sent": times.loop_output_s,
    }  # fmt: skip
    front = predicting.Front(**data["front"])
    told |= {
        "way in of a request, alone, of the client that drives it": front.way_in_s,
        "server's loop and this client together, for a request": front.request_s,
        "the same for a token": front.output_s,
    }
    return [
        f"Steps that were not fitted: {errors}.{_drift(data)}",
        "",
        "| outside the steps | us |",
        "|---|---|",
        *(f"| {name} | {1e6 * seconds:.1f} |" for name, seconds in told.items()),
    ]


def _drift(data: predicting.Data) -> str:
    """Return how much slower the same steps were after the runs."""
    if len(data["steps"]) == 1:
        return ""
    before, after = ({str(one["shape"]): one["seconds"] for one in rows} for rows in data["steps"])
    both = before.keys() & after.keys()
    drift = sum(after[shape] for shape in both) / sum(before[shape] for shape in both) - 1.0
    return f" The same steps after the runs: {drift:+.1%}."
