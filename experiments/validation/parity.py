"""Parity plots: predicted over measured, one picture per latency and one for rates."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.reporting.drawing import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

PICTURES = {
    "ttft": (("ttft_mean_ms", "ttft_p99_ms"), "TTFT, ms"),
    "tpot": (("tpot_mean_ms", "itl_mean_ms", "tpot_p99_ms"), "TPOT and ITL, ms"),
    "e2e": (("e2e_mean_ms", "e2e_p99_ms"), "E2E, ms"),
    "rates": (("out_tok_s", "req_s"), "per second"),
}
"""Picture to the metrics in it, one panel each."""

WITHIN = 1.1
"""The grey band: within 10%."""

MARKERS = "os^Dv*P"


def draw_parity(errors: "DataFrame", about: "DataFrame", folder: Path, note: str) -> list[Path]:
    """Draw every picture that has data as ``parity_NAME.png``.

    Args:
        errors: see ``tables.errors_table``.
        about: run_id, dataset and saturated of each row; hollow marks are saturated.
        folder: where to.
        note: what prices rest on, for the title.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn = []
    with plt.style.context(STYLE):
        merged = errors.merge(about.astype({"run_id": object}), on="run_id")
        datasets = sorted(set(map(str, about.dataset)))
        merged = merged[(merged.measured > 0) & (merged.predicted > 0)]
        for name, (metrics, title) in PICTURES.items():
            shown = [metric for metric in metrics if (merged.metric == metric).any()]
            if not shown:
                continue
            figure, panels = plt.subplots(
                1, len(shown), figsize=(4.2 * len(shown), 4.4), squeeze=False
            )
            for metric, axes in zip(shown, panels[0], strict=True):
                _panel(axes, merged[merged.metric == metric], metric, datasets)
            figure.suptitle(f"{title} · {note}", wrap=True)
            path = folder / f"parity_{name}.png"
            figure.savefig(path, metadata={"Software": None})
            plt.close(figure)
            drawn.append(path)
    return drawn


def _panel(axes: "Axes", rows: "DataFrame", metric: str, datasets: list[str]) -> None:
    import numpy as np

    low = 0.7 * min(rows.measured.min(), rows.predicted.min())
    high = 1.4 * max(rows.measured.max(), rows.predicted.max())
    line = np.array([low, high])
    axes.fill_between(line, line / WITHIN, line * WITHIN, color="#e4e4e4", linewidth=0)
    axes.plot(line, line, color="#555555", linewidth=0.7)
    for dataset, part in rows.groupby("dataset", sort=True):
        number = datasets.index(str(dataset))
        marker, colour = MARKERS[number % len(MARKERS)], f"C{number % 8}"
        for saturated, some in part.groupby("saturated"):
            axes.plot(
                some.measured, some.predicted, marker, color=colour, linestyle="none",
                fillstyle="none" if saturated else "full", markersize=4, alpha=0.8,
                label=f"{dataset}{', saturated' if saturated else ''}",
            )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured",
        ylabel="predicted",
        title=f"{metric}: median error {rows.abs_error_pct.median():.1f}% of {len(rows)}",
    )  # fmt: skip
    axes.legend()
