"""Where one API server process stops: streams that begin together, measured and modelled."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.witness.served import predicting
from experiments.witness.served.setting import Drawn
from hardware.calibration import Calibration
from sim.simulation import simulate


def curve_rows(data: Mapping[str, Any]) -> list[str]:
    """Return the curve as a table."""
    lines = [
        "| streams | tokens/s | again | modelled | error | engine alone | TPOT ms | again "
        "| modelled | messages per token | API server's core | engine's |",
        "|---" * 12 + "|",
    ]
    for row in curve(data):
        lines.append(
            f"| {row['streams']} | {row['tokens_per_s']:.0f} | {row['again_per_s']:.0f} | "
            f"{row['modelled_per_s']:.0f} | {row['error']:+.1%} | {row['engine_per_s']:.0f} | "
            f"{1e3 * row['tpot_s']:.2f} | {1e3 * row['again_tpot_s']:.2f} | "
            f"{1e3 * row['modelled_tpot_s']:.2f} | {row['messages']:.2f} | "
            f"{row['api_share']:.0%} | {row['engine_share']:.0%} |"
        )
    return lines


def curve(data: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return a row for each number of streams."""
    again = {one["streams"]: one for one in data["points"] if one["again"]}
    prices = predicting.prices_of(data)
    alone = prices.model_copy(update=dict.fromkeys(predicting.API, 0.0))
    rows = []
    for point in data["points"]:
        if point["again"]:
            continue
        streams, second = point["streams"], again[point["streams"]]
        rate, tpot_s = _modelled(data, prices, streams, point["each"], shared=True)
        engine_rate, _ = _modelled(data, alone, streams, point["each"], shared=False)
        measured, repeated = (one["tokens"] / one["lasted_s"] for one in (point, second))
        rows.append(
            {
                "streams": streams, "tokens_per_s": measured, "again_per_s": repeated,
                "modelled_per_s": rate, "error": 2 * rate / (measured + repeated) - 1,
                "engine_per_s": engine_rate,
                "tpot_s": point["tpot_s"], "again_tpot_s": second["tpot_s"],
                "modelled_tpot_s": tpot_s, "messages": point["messages"] / point["tokens"],
                "api_share": (point["api_cpu_s"] + point["client_cpu_s"]) / point["lasted_s"],
                "engine_share": point["engine_cpu_s"] / point["lasted_s"],
            }
        )  # fmt: skip
    return rows


def _modelled(
    data: Mapping[str, Any], prices: Calibration, streams: int, tokens: int, *, shared: bool
) -> tuple[float, float]:
    """Tokens per second and TPOT of streams that begin together."""
    rows = Drawn(
        np.arange(streams), np.full(streams, predicting.CURVE_PROMPT), np.full(streams, tokens)
    )
    requests = rows.rows(0, None, [0.0] * streams)
    columns = simulate(predicting.scenario_of(data, prices, shared), requests).requests
    first_s, last_s = columns["first_token_s"], columns["finish_s"]
    return (
        float(streams * tokens / last_s.max()),
        float(((last_s - first_s) / max(1, tokens - 1)).mean()),
    )
