"""What a table of measured runs, its words and its per-request files are read as."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.study.errors import StudyError
from experiments.validation.lengths import length_law
from experiments.validation.per_request import PerRequestError, find_file, read_requests
from experiments.validation.rows import Run, read_table, row_of
from experiments.validation.stages import StageError, stage_rates_per_s, stages_of_recorded
from experiments.validation.traffic import plan_traffic
from tests.experiments.measured_runs import run, write_requests, write_table


def read_one(**cells: str) -> Run:
    return Run("r", (row_of(run("r", **cells)),))


def test_cells_as_people_write_them() -> None:
    row = row_of(
        run("a/stage1", max_num_seqs="1,024", kv_blocks="7462.0", max_model_len="", n_failed="nan",
            ttft_mean_ms="12.5", e2e_mean_ms="")
    )  # fmt: skip
    assert (row.max_num_seqs, row.kv_blocks, row.max_model_len, row.n_failed) == (
        1024, 7462, None, None,
    )  # fmt: skip
    assert row.measured == {"ttft_mean_ms": 12.5}
    assert (row.run, row.stage) == ("a", 1)


def test_parts_of_a_run_belong_together(tmp_path: Path) -> None:
    rows = [run("a/stage1"), run("b"), run("a/all"), run("a/stage0"), run("c/all")]
    table = read_table(write_table(tmp_path / "runs.csv", rows))
    assert [[row.run_id for row in one.rows] for one in table.runs] == [
        ["a/stage1", "a/all", "a/stage0"], ["b"], ["c/all"],
    ]  # fmt: skip
    assert table.runs[0].base.run_id == "a/all"
    assert [row.run_id for row in table.runs[0].stages] == ["a/stage0", "a/stage1"]
    assert [row.run_id for row in table.runs[2].stages] == ["c/all"]


def test_an_unreadable_cell_costs_its_row_only(tmp_path: Path) -> None:
    rows = [run("a", tp="two", gpu_mem_util="1.5"), run("b")]
    table = read_table(write_table(tmp_path / "runs.csv", rows))
    assert [one.name for one in table.runs] == ["b"]
    (bad,) = table.unreadable
    assert bad.run_id == "a"
    assert "column tp = 'two': expected a valid integer" in bad.reason
    assert "column gpu_mem_util = '1.5': expected less than or equal to 1" in bad.reason


def test_tables_that_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("run_id,model,gpu\n")
    with pytest.raises(StudyError, match="no run, expected one row per run"):
        read_table(empty)
    named = tmp_path / "named.csv"
    named.write_text("run_id,models,gpu\na,b,c\n")
    with pytest.raises(StudyError, match=r"column model is missing.*did you mean models"):
        read_table(named)
    twice = write_table(tmp_path / "twice.csv", [run("a"), run("a")])
    with pytest.raises(StudyError, match="run_id 'a' stands twice"):
        read_table(twice)
    with pytest.raises(StudyError, match="cannot read the runs: No such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("cells", "closed", "at_once"),
    [
        ({"arrival_process": "closed loop", "max_concurrency": "8"}, True, False),
        ({"request_rate_rps": "inf", "max_concurrency": "8"}, True, True),
        ({"request_rate_rps": "inf"}, False, True),
        ({"request_rate_rps": "", "arrival_process": "", "max_concurrency": "8"}, True, False),
        ({"max_concurrency": "256"}, False, False),
        ({"max_concurrency": "inf"}, False, False),
    ],
)
def test_who_waits_for_answers(cells: dict[str, str], closed: bool, at_once: bool) -> None:
    row = row_of(run("a", **cells))
    assert (row.closed_loop, row.all_at_once) == (closed, at_once)


@pytest.mark.parametrize(
    ("spec", "mean", "expected"),
    [
        ("fixed 247 (ignore_eos)", None, (247, 0, 0)),
        ("1024", None, (1024, 0, 0)),
        ("1024 target", 986.2, (986.2, 0, 0)),
        ("sys100+q447 (~575), peak 6 rps", None, (575, 100, 100)),
        (
            "shared_prefix: 9 groups x 5 prompts = 45 distinct prompts cycled; sys=100 q=466",
            591.6,
            (591.6, 100, 45),
        ),
        ("sys=100 q=466", None, (566, 100, 100)),
        ("uniform(512, 1024)", None, (768, 0, 0)),
        ("512-1024", None, (768, 0, 0)),
        ("trace", 1147.7, (1147.7, 0, 0)),
    ],
)
def test_lengths_in_words(spec: str, mean: float | None, expected: tuple[float, int, int]) -> None:
    law = length_law("prompt", spec, mean)
    assert law is not None
    assert (law.mean, law.shared_tokens, law.distinct) == expected


def test_laws_have_the_spread_that_the_words_say() -> None:
    rng = np.random.default_rng(1)
    jitter = length_law("prompt", "1000", 1000.0, "random fixed (+-20% len jitter)")
    assert jitter is not None
    drawn = jitter.sample(20_000, rng)
    assert (drawn.min(), drawn.max()) == (800, 1200)
    # Uniform: sd = 400 / sqrt(12) = 115.5; its estimate of 20,000 is within 1%, 5 of its errors.
    assert drawn.std() == pytest.approx(115.5, rel=0.02)
    ratio = length_law("prompt", "random 1024 (range ratio 0.5)", None)
    assert ratio is not None
    assert (ratio.mean, ratio.jitter) == (1024, 0.5)
    for spread, cv in (("lognormal mean 600, cv 0.5", 0.5), ("mean=600 std=150", 0.25)):
        told = length_law("prompt", spread, None)
        assert told is not None
        assert (told.mean, told.cv, told.assumption) == (600, cv, "")
    for fixed in ("random 1024", "osl=1024", "1024"):
        law = length_law("output", fixed, None)
        assert law is not None
        assert not law.is_random
    trace = length_law("output", "trace", 200.0)
    assert trace is not None
    assert "ShareGPT" in trace.assumption
    # sd of the mean: 0.6 / sqrt(20,000) = 0.4%.
    assert trace.sample(20_000, rng).mean() == pytest.approx(200, rel=0.02)
    assert length_law("output", "trace", None) is None
    assert length_law("output", None, None) is None


def test_three_formats_of_per_request_files(tmp_path: Path) -> None:
    blis = write_requests(
        tmp_path / "blis.csv.gz",
        "index,arrival_s,prompt_id,input_tokens,output_tokens_true,output_tokens_retokenized,"
        "ttft_s,e2e_s,error",
        [(0, 0.0, 7, 50, 20, 3, 0.1, 1.0, 0), (1, 2.0, 9, 60, 20, 5, 0.1, 1.0, 0),
         (2, 1.0, 7, 0, 20, 0, "", 300.1, 1), (3, 3.0, 8, 0, 20, 0, "", 300.2, 1)],
    )  # fmt: skip
    found = read_requests(blis)
    assert found.arrival_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    # A failed request has the length of its prompt, or the median of 50 and 60.
    assert found.prompt_tokens.tolist() == [50, 50, 60, 55]
    assert found.output_tokens.tolist() == [20, 20, 20, 20]
    assert found.identity is not None
    assert found.identity[0] == found.identity[1] != found.identity[2]
    assert found.timeout_s == 300.1

    residency = write_requests(
        tmp_path / "residency.csv",
        "request_id,tenant,arrival_s,send_s,input_tokens,output_tokens,ttft_s,e2e_s,num_chunks,status",
        [(0, "A", 0.5, 0.6, 1010, 128, 0.07, 1.6, 130, "ok")],
    )
    found = read_requests(residency)
    assert (found.prompt_tokens.tolist(), found.output_tokens.tolist()) == ([1010], [128])
    assert (found.identity, found.timeout_s) == (None, None)

    apex = write_requests(
        tmp_path / "apex.csv", "RequestID,arrival_s,input_tokens,output_tokens",
        [("b", 31.0, 335, 764)],
    )  # fmt: skip
    assert read_requests(apex).arrival_s.tolist() == [31.0]


def test_per_request_files_of_other_names_and_formats(tmp_path: Path) -> None:
    rows = [(0.0, 30, 5), (1.0, 40, 6)]
    counts = write_requests(tmp_path / "toks.csv", "arrival_s,input_toks,output_toks", rows)
    assert read_requests(counts).prompt_tokens.tolist() == [30, 40]
    frame = pd.DataFrame(rows, columns=["arrival_s", "prompt_tokens", "output_tokens"])
    frame.to_parquet(tmp_path / "requests.parquet")
    assert read_requests(tmp_path / "requests.parquet").output_tokens.tolist() == [5, 6]
    bench = {"start_times": [7.0, 8.5], "input_lens": [30, 40], "output_lens": [5, 6]}
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    found = read_requests(tmp_path / "bench.json")
    assert found.arrival_s.tolist() == [0.0, 1.5]
    assert found.prompt_tokens.tolist() == [30, 40]


def test_prefixes_beside_a_per_request_file(tmp_path: Path) -> None:
    path = write_requests(
        tmp_path / "r.csv",
        "arrival_s,prompt_tokens,output_tokens,prefix_id,prefix_tokens",
        [(0.0, 100, 5, "a", 64), (1.0, 120, 5, "a", 64), (2.0, 90, 5, "", 0)],
    )
    found = read_requests(path).prefixes
    assert found is not None
    first = found.streams[found.offsets[:-1]]
    assert first[0] == first[1] != first[2]
    assert found.ends.tolist() == [64, 64, 0]
    broken = write_requests(
        tmp_path / "b.csv", "arrival_s,prompt_tokens,output_tokens,prefix_id", [(0.0, 9, 5, "a")]
    )
    with pytest.raises(PerRequestError, match="expected both or neither"):
        read_requests(broken)


def test_tables_gzipped_and_in_parquet(tmp_path: Path) -> None:
    rows = [run("a", ttft_mean_ms="30"), run("b", tp="2")]
    plain = write_table(tmp_path / "runs.csv", rows)
    packed = tmp_path / "runs.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    pd.read_csv(plain).to_parquet(tmp_path / "runs.parquet")
    wanted = read_table(plain).runs
    for path in (packed, tmp_path / "runs.parquet"):
        found = read_table(path).runs
        assert [one.base for one in found] == [one.base for one in wanted]
    packed.write_bytes(b"no gzip")
    with pytest.raises(StudyError, match="not gzip"):
        read_table(packed)


@pytest.mark.parametrize(
    ("notes", "inside"),
    [
        ("means of the engine's /metrics", True),
        ("engine-side timings", True),
        ("from OTEL spans", True),
        ("client-side, no engine-side timings", False),
        ("vllm bench serve", False),
        ("", False),
    ],
)
def test_who_measured(notes: str, inside: bool) -> None:
    assert row_of(run("a", notes=notes)).measured_inside == inside


def test_per_request_files_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PerRequestError, match=r"per_request_file p/a\.csv does not exist"):
        find_file(tmp_path, "p/a.csv")
    bare = write_requests(tmp_path / "bare.csv", "arrival,input_tokens,output_tokens", [(1, 2, 3)])
    with pytest.raises(PerRequestError, match=r"expected a column arrival_s.*did you mean arrival"):
        read_requests(bare)
    none = write_requests(tmp_path / "none.csv", "arrival_s,input_tokens,output_tokens", [])
    with pytest.raises(PerRequestError, match="no request with an arrival"):
        read_requests(none)


def test_a_file_is_found_by_its_own_name(tmp_path: Path) -> None:
    path = write_requests(
        tmp_path / "per_request" / "a.csv", "arrival_s,input_tokens,output_tokens", [(0, 1, 1)]
    )
    assert find_file(tmp_path, "per_request/a.csv") == path
    assert find_file(tmp_path, "elsewhere/a.csv") == path


def test_stages_are_stretches_of_the_file(tmp_path: Path) -> None:
    path = write_requests(
        tmp_path / "a.csv", "arrival_s,input_tokens,output_tokens",
        [(time, 10, 10) for time in (0, 1, 2, 11, 12)],
    )  # fmt: skip
    recorded = read_requests(path)

    def of(**cells: str) -> Run:
        return Run("a", (row_of(run("a/stage0", **cells)), row_of(run("a/stage1", **cells))))

    by_count = Run(
        "a", (row_of(run("a/stage0", n_requests="3")), row_of(run("a/stage1", n_requests="2")))
    )
    assert stages_of_recorded(by_count, recorded).tolist() == [0, 0, 0, 1, 1]
    assert stages_of_recorded(of(duration_s="10"), recorded).tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(StageError, match="add up to 8, the per_request_file has 5"):
        stages_of_recorded(of(n_requests="4"), recorded)
    # Without the rows of the other stages, a stage begins after as many durations.
    late = Run("a", (row_of(run("a/stage1", n_requests="2", duration_s="10")),))
    assert stages_of_recorded(late, recorded).tolist() == [-1, -1, -1, 0, 0]
    early = Run("a", (row_of(run("a/stage0", n_requests="3", duration_s="10")),))
    assert stages_of_recorded(early, recorded).tolist() == [0, 0, 0, -1, -1]
    with pytest.raises(StageError, match="2 stages in one per_request_file, expected n_requests"):
        stages_of_recorded(of(duration_s=""), recorded)


def test_rates_of_stages() -> None:
    assert stage_rates_per_s(read_one())[0] == [2.0]
    counted = read_one(request_rate_rps="", n_requests="300", duration_s="100")
    assert stage_rates_per_s(counted)[0] == [3.0]
    whole = (row_of(run("a/all")), row_of(run("a/stage0", request_rate_rps="")))
    rates, notes = stage_rates_per_s(Run("a", whole))
    assert (rates, notes) == (
        [2.0],
        ["request rates of the stages: 2/s each, that of the whole run"],
    )
    with pytest.raises(StageError, match="no request rate, expected request_rate_rps"):
        stage_rates_per_s(read_one(request_rate_rps=""))


def test_rates_follow_from_a_peak_and_the_published_means() -> None:
    unknown = {"request_rate_rps": "", "isl_spec": "sys100+q447 (~575), peak 6 rps"}
    means = {"a/all": "40", "a/stage0": "20", "a/stage1": "45"}
    rows = tuple(row_of(run(name, **unknown, e2e_mean_ms=mean)) for name, mean in means.items())
    rates, notes = stage_rates_per_s(Run("a", rows))
    # 40 = 0.2 * 20 + 0.8 * 45: the second stage had four times the requests of the first.
    assert rates == pytest.approx([1.5, 6.0])
    assert "from the peak of 6/s and the stages' shares" in notes[0]


def test_a_cold_server_is_told(tmp_path: Path) -> None:
    rows = [(0.5 * n, 100, 10, 0.9 if n == 0 else 0.03) for n in range(40)]
    header = "arrival_s,input_tokens,output_tokens,ttft_s"
    write_requests(tmp_path / "cold.csv", header, rows)
    write_requests(tmp_path / "warm.csv", header, [(*row[:3], 0.03) for row in rows])

    def notes(**cells: str) -> str:
        return "; ".join(plan_traffic(Run("a", (row_of(run("a", **cells)),)), tmp_path).notes)

    found = notes(per_request_file="cold.csv")
    assert "the first requests of a cold server are in the figures, TTFT of up to 900 ms" in found
    assert "first_request_s says how cold it was" in found
    told = notes(per_request_file="cold.csv", first_request_s="800 ms")
    assert "first_request_s = 0.8 is simulated" in told
    assert "cold" not in notes(per_request_file="warm.csv")
    assert "as the notes say" in notes(notes="no warm-up, cold start included")
