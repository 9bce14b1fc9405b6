"""Layout of a sweep on paper; every kind of sweep is drawn, alike and without collisions."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.reporting import plots
from experiments.reporting.drawing import house_style
from experiments.reporting.figure_layout import Curve, short_key, spread, sweep_layout, value_text
from experiments.reporting.figure_marks import (
    MISSES,
    SATURATED,
    curve_handle,
    legend,
    name_points,
    plain_ticks,
)
from experiments.reporting.plots import draw_plots
from experiments.reporting.records import Records
from experiments.reporting.stats import summarise_points
from experiments.running.workers import shared_by

SEQS, SCHEDULER = "engine.max_num_seqs", "engine.scheduler"
METRICS = ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s", "tpot_p99_s")


def runs_of(points: list[dict[str, Any]], seeds: int = 3, measured: float = 1800) -> pd.DataFrame:
    """Plausible metrics: throughput rises and TTFT falls with the place of the point."""
    rng = np.random.default_rng(0)
    rows = []
    for place, seed in itertools.product(range(len(points)), range(seeds)):
        noise = rng.normal(1, 0.05)
        row: dict[str, Any] = {"point": place, "seed": seed, **points[place]}
        row |= {name: 0.02 * noise * (1 + 2 * i) for i, name in enumerate(METRICS)}
        row["ttft_p99_s"] = 100 * noise / 4.0**place
        rate = 4 * noise * (1 - 2.0 ** -(place + 1))
        row |= {
            "measured_requests": measured, "saturated": float(place == 0), "unfinished": 0.0,
            "timed_out": 0.0, "rejected": 0.0,
            "output_tokens_per_s": 256 * rate, "request_throughput_per_s": rate,
            "goodput_per_s": rate / 2, "slo_met": 0.0, "mean_batch_size": 2.0 + place,
            "kv_use_mean": 0.1, "kv_use_max": 0.3, "mfu": 0.2, "mbu": 0.7 * noise,
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def timelines_of(count: int) -> list[dict[str, Any]]:
    lines = []
    for place in range(count):
        times = (np.arange(50) + 0.5) * (place + 1)
        wave = 1 + np.sin(times / 7)
        lines.append({"time_s": times, "kv_use": wave / 3, "running": 9 * wave, "waiting": times})
    return lines


def draw(
    folder: Path, keys: list[str], runs: pd.DataFrame, lines: bool = True, jobs: int = 1
) -> list[str]:
    """Draw with every warning an error; returns the names of the files."""
    table = Records.of_frame(runs)
    summary = summarise_points(table, ["point", *keys])
    timelines = timelines_of(len(summary)) if lines else []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = draw_plots("study", keys, table, summary, timelines, folder, shared_by(jobs))
    assert sorted(paths) == sorted(folder.iterdir())
    return [path.stem for path in paths]


def grid(**axes: list[Any]) -> list[dict[str, Any]]:
    names = {"seqs": SEQS, "scheduler": SCHEDULER, "rate": "workload.arrivals.rate_per_s"}
    return [
        dict(zip((names[axis] for axis in axes), values, strict=True))
        for values in itertools.product(*axes.values())
    ]


ALL = ["throughput_latency", "latency", "utilisation", "timeline"]
SWEEPS = {
    "numeric": ([SEQS], grid(seqs=[1, 4, 16, 64, 256])),
    "names": ([SCHEDULER], grid(scheduler=["static", "prefill_first", "chunked_prefill"])),
    "two keys": ([SCHEDULER, SEQS], grid(scheduler=["static", "chunked_prefill"], seqs=[1, 8])),
    "many names": ([SCHEDULER], grid(scheduler=[f"scheduler-{i}" for i in range(10)])),
    "many curves": (
        ["workload.arrivals.rate_per_s", SEQS],
        grid(rate=[0.5, 2.0, 5.0], seqs=[10 * i for i in range(1, 12)]),
    ),
    "points that agree in nothing": (
        [SEQS, SCHEDULER],
        [{SEQS: 1, SCHEDULER: "a"}, {SEQS: 2, SCHEDULER: "b"}, {SEQS: 3, SCHEDULER: "c"}],
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_is_drawn(name: str, tmp_path: Path) -> None:
    keys, points = SWEEPS[name]
    assert draw(tmp_path, keys, runs_of(points)) == ALL


def test_without_sweep_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert draw(tmp_path, [], runs_of([{}], seeds=1, measured=100)) == ["latency", "timeline"]


def test_undefined_and_missing_metrics_leave_gaps(tmp_path: Path) -> None:
    runs = runs_of(grid(seqs=[1, 2, 4]), seeds=1)
    runs["tpot_p50_s"] = runs["tpot_p95_s"] = runs["tpot_p99_s"] = np.nan
    runs.loc[0, "ttft_p95_s"] = np.inf
    runs = runs.drop(columns=["mfu", "mbu"])
    assert draw(tmp_path, [SEQS], runs, lines=False) == ALL[:-1]
    seeds = Records({"seed": runs["seed"]})
    assert draw_plots("x", [], seeds, seeds, [], tmp_path) == []


def test_without_an_slo_there_is_one_throughput(tmp_path: Path) -> None:
    runs = Records.of_frame(runs_of(grid(seqs=[1, 4, 16])))
    summary = summarise_points(runs, ["point", SEQS])
    layout = sweep_layout(summary, [SEQS])
    for slo_met in (1.0, np.nan):
        figure = plots._utilisation(layout, summary.having(slo_met=[slo_met] * 3), 1, {})
        assert figure is not None
        assert (figure.axes[0].get_legend() is None) == np.isnan(slo_met)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    pictures = []
    for name, jobs in (("first", 1), ("second", 1), ("shared out", 2)):
        folder = tmp_path / name
        folder.mkdir()
        draw(folder, [SEQS], runs_of(grid(seqs=[1, 4, 16])), jobs=jobs)
        pictures.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert pictures[0] == pictures[1] == pictures[2]
    assert all(b"Software" not in picture for picture in pictures[0])


def test_figures_look_as_the_house_says_and_leave_the_users_settings_alone() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "lines.linestyle": "--", "axes.grid": False}):
        with house_style():
            assert matplotlib.rcParams["font.size"] == 8.5  # of the style file
            assert matplotlib.rcParams["lines.linestyle"] == "-"  # the library's own
        assert matplotlib.rcParams["font.size"] == 20
        assert matplotlib.rcParams["lines.linestyle"] == "--"


def test_timelines_belong_to_points(tmp_path: Path) -> None:
    runs = Records.of_frame(runs_of(grid(seqs=[1, 2])))
    summary = summarise_points(runs, [SEQS])
    with pytest.raises(ValueError, match="timelines has 1 entries, expected one for each of the 2"):
        draw_plots("study", [SEQS], runs, summary, timelines_of(1), tmp_path)


def test_layout_puts_the_longest_number_on_the_axis() -> None:
    frame = Records.of(grid(rate=[1.0, 2.0], seqs=[4, 1, 16]))
    layout = sweep_layout(frame, list(frame))
    assert (layout.axis, layout.title) == (SEQS, "arrivals.rate_per_s")
    assert layout.curves == (Curve("1", (1, 0, 2)), Curve("2", (4, 3, 5)))
    assert layout.points[3] == "2, 4"


def test_layout_ignores_keys_that_do_not_vary() -> None:
    frame = Records({SEQS: [1, 2], SCHEDULER: ["static", "static"], "flag": [True, True]})
    layout = sweep_layout(frame, list(frame))
    assert (layout.axis, layout.title, layout.curves) == (SEQS, "", (Curve("", (0, 1)),))


def test_layout_of_names_and_of_repeated_numbers_has_no_axis() -> None:
    for frame in (
        Records({"on": [False, True]}),
        Records({SEQS: [1, 1, 2], "cluster.gpu": [{"name": "x"}, {"name": "x"}, {"a": 1}]}),
        Records({SEQS: [1.0, np.nan]}),
    ):
        layout = sweep_layout(frame, list(frame))
        assert layout.axis is None
        assert len(layout.curves) == len(frame)


def test_texts() -> None:
    assert [value_text(v) for v in (256.0, 0.1, 1e6, "static", True, None, np.nan)] == [
        "256", "0.1", "1000000", "static", "true", "none", "none"
    ]  # fmt: skip
    assert value_text({"name": "custom", "memory_bytes": 1}) == "custom"
    assert short_key("engine.max_num_seqs") == "max_num_seqs"
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([1, 2], 4) == [1, 2]


def paper() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(4, 3))
        return figure, figure.subplots()


def exact(values: Any) -> Any:
    return np.stack([values, np.full(len(values), np.nan), np.full(len(values), np.nan)])


def test_names_of_points_never_overlap() -> None:
    figure, axes = paper()
    rng = np.random.default_rng(3)
    across, up = exact(rng.uniform(1, 1000, 40)), exact(rng.lognormal(0, 2, 40))
    plain_ticks(axes, "x", across, logarithmic=False)
    plain_ticks(axes, "y", up)
    figure.draw_without_rendering()
    name_points(axes, across, up, [range(20), range(20, 40)], [f"{i}" for i in range(40)])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) > 20
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.containsx(box.x1) and axes.bbox.containsy(box.y1) for box in boxes)


def test_points_that_coincide_share_a_name() -> None:
    figure, axes = paper()
    across, up = exact([1.0, 5.0, 5.0, 5.0, 9.0, 9.0]), exact([1.0, 3.0, 3.0, 3.0, 5.0, 5.0])
    plain_ticks(axes, "x", across)
    plain_ticks(axes, "y", up)
    figure.draw_without_rendering()
    name_points(axes, across, up, [range(6)], ["1", "2", "4", "8", "16", "32"])
    assert sorted(text.get_text() for text in axes.texts) == ["1", "16, 32", "2 to 8"]


def test_labels_of_axes_stay_below_their_own_panel() -> None:
    key = "engine.speculative.num_speculative_tokens"
    runs = Records.of_frame(runs_of([{key: count} for count in (0, 1, 3)]))
    summary = summarise_points(runs, ["point", key])
    with house_style():
        figure = plots._throughput_latency(sweep_layout(summary, [key]), summary, 3, {})
        assert figure is not None
        figure.draw_without_rendering()
        boxes = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
    assert boxes[0].x1 < boxes[1].x0
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_ticks() -> None:
    figure, axes = paper()
    values = exact(np.array([1.0, 4.0, 16.0, 256.0]))
    plain_ticks(axes, "x", values, at_values=True)
    plain_ticks(axes, "y", exact(np.array([3.0, np.nan, 7.0])))
    figure.draw_without_rendering()
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16", "256"]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] == 0


def test_legend_tells_what_hollow_and_bars_are() -> None:
    figure, _ = paper()
    legend(
        figure,
        "scheduler",
        {"static": curve_handle(0, True), "": curve_handle(1, True)},
        [SATURATED, MISSES],
        3,
    )
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["static", SATURATED, MISSES, "95% interval, 3 seeds"]
    plain, _ = paper()
    legend(plain, "", {}, [], 1)
    assert plain.legends == []


@pytest.mark.parametrize("words", ["1", "chunked_prefill", "a rather long category, of two keys"])
@pytest.mark.parametrize("count", range(1, 9))
def test_legend_stays_on_the_paper(words: str, count: int) -> None:
    figure, _ = paper()
    figure.set_size_inches(7.2, 4)
    with house_style():
        handles = {f"{words} {i}": curve_handle(i, True) for i in range(count)}
        legend(figure, "scheduler", handles, [SATURATED], 3)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
