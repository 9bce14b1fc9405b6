"""The report: whole, self-contained, in people's units, and honest about what it cannot claim."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.reporting.quantities import DASH, MISSING, significant, time_unit, with_interval
from experiments.reporting.report import LATENCY, TABLES, report_table, write_report
from experiments.reporting.stats import summarise_points
from sim.metrics import METRICS

KEY = "engine.max_num_seqs"
PIXEL = bytes.fromhex("89504e470d0a1a0a")


def summary_of(seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for limit in (1, 4):
        for seed in range(seeds):
            row: dict[str, Any] = {KEY: limit, "seed": seed}
            row |= {name: 0.5 + 0.1 * rng.random() for name in METRICS}
            row |= {"measured_requests": 300.0, "saturated": float(limit == 1), "rejected": 0.0}
            row |= {"unfinished": 0.0, "timed_out": 0.0, "preemptions": 7.0 + seed}
            row["usd_per_hour"] = np.nan
            row["ttft_p50_s"] = 900.0 if limit == 1 else 0.08123 + 0.001 * seed
            rows.append(row)
    return summarise_points(pd.DataFrame(rows), [KEY])


def report(folder: Path, summary: pd.DataFrame, **changes: Any) -> str:
    plot = folder / "latency.png"
    plot.write_bytes(PIXEL)
    texts: dict[str, Any] = {
        "study_name": "batching", "description": "does it <pay>?", "study_yaml": "name: batching\n",
        "summary": summary, "sweep_keys": [KEY], "plots": [plot],
        "settings_text": "vLLM 0.33's server", "ledger_text": "weights 15 GiB",
        "ceilings_text": "fastest token 8 ms", "notes": ["calibration: none"],
    }  # fmt: skip
    write_report(folder / "report.html", **{**texts, **changes})
    return (folder / "report.html").read_text(encoding="utf-8")


class Balanced(HTMLParser):
    """Collects tags and checks that each is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    page = report(tmp_path, summary_of())
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.seen
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert 'alt="latency percentiles"' in page
    for text in (
        "does it &lt;pay&gt;?",
        "vLLM 0.33&#39;s server",
        "weights 15 GiB",
        "calibration: none",
        "name: batching",
    ):
        assert text in page
    assert page.index("fastest token 8 ms") < page.index("<h2>Throughput</h2>")
    assert page == report(tmp_path, summary_of())


def test_caveats_name_their_points(tmp_path: Path) -> None:
    page = report(tmp_path, summary_of())
    assert "<li><b>max_num_seqs 1</b>: saturated: the queue grows without bound" in page
    assert "<li><b>every point</b>: p99 rests on 300 requests</li>" in page
    assert page.count('<tr class="saturated">') == len(TABLES)
    assert "Over 3 seeds" in page


def test_one_seed_and_no_texts(tmp_path: Path) -> None:
    empty = {
        "description": "", "settings_text": "", "ledger_text": "", "ceilings_text": "",
        "notes": [], "plots": [],
    }  # fmt: skip
    page = report(tmp_path, summary_of(1)[1:], sweep_keys=[], **empty)
    assert "One seed: no intervals" in page
    assert "<li>p99 rests on 300 requests</li>" in page
    for heading in ("Ceilings", "Pictures", "Memory"):
        assert f"<h2>{heading}" not in page


def test_a_point_without_caveats_needs_no_warning(tmp_path: Path) -> None:
    summary = summary_of().drop(columns="notes")
    assert "Read this first" not in report(tmp_path, summary, notes=[])


def test_unknown_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"summary has no column 'engine\.x', expected"):
        report(tmp_path, summary_of(), sweep_keys=["engine.x"])


def test_table_in_the_units_of_the_steady_points() -> None:
    table = report_table("Latency", LATENCY, summary_of(), [KEY])
    assert table.headings[:2] == ("max_num_seqs", "TTFT p50 (ms)")
    assert table.rows[0][:2] == ("1", "900,000")
    assert table.rows[1][:2] == ("4", "82.2 ± 2.5")
    assert table.saturated == (True, False)


def test_tables_leave_out_what_is_undefined_and_count_whole() -> None:
    summary = summary_of()
    rates = report_table("Throughput", TABLES["Throughput"], summary, [KEY])
    assert "price (USD/h)" not in rates.headings
    use = report_table("Use", TABLES["Use of the hardware"], summary, [KEY])
    assert use.rows[0][use.headings.index("preemptions")] == "8"
    assert report_table("Use", TABLES["Use of the hardware"], summary[[KEY]], [KEY]).rows == ()


def test_every_column_is_a_metric() -> None:
    for columns in TABLES.values():
        assert {column.metric for column in columns} <= {*METRICS, "slo_verdict"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1.00"), (0.012345, "0.0123"), (12345.0, "12,300"), (999.6, "1,000"),
        (9.996, "10.0"), (-2.5, "-2.50"), (0.00001234, "1.23e-05"), (float("inf"), "∞"),
        (float("-inf"), "-∞"), (float("nan"), MISSING),
    ],
)  # fmt: skip
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_with_interval() -> None:
    assert with_interval(123.4, 118.9, 127.9) == "123 ± 4.5"
    assert with_interval(0.92, 0.88, 0.95) == f"0.920 (0.880{DASH}0.950)"
    assert with_interval(82.0, 80.0, 84.4) == "82.0 ± 2.2"  # nearly symmetric
    assert with_interval(123.4, float("nan"), float("nan")) == "123"


def test_time_unit() -> None:
    assert time_unit(np.array([0.5, np.inf, np.nan])) == ("ms", 1e3)
    assert time_unit(np.array([0.5, 10.0])) == ("s", 1.0)
