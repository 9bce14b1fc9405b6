"""Length laws and recorded lengths.

Statistical tests use fixed seeds. Each would reject a correct sampler with probability 1e-6, were
its seed drawn anew.
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from workloads.lengths import (
    Constant,
    Empirical,
    Exponential,
    LengthLaw,
    Lengths,
    LogNormal,
    Uniform,
)
from workloads.streams import stream
from workloads.traces import TraceError, read_length_column

FALSE_ALARM = 1e-6
LAWS = [
    Constant(value=128),
    Uniform(min=10, max=20),
    LogNormal(mean=200.0, cv=1.5, min=4, max=4096),
    Exponential(mean=50.0, max=300),
]


def drawn(law, count=20000, seed=1):
    return law.sample(count, stream(seed, "lengths"))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.distribution)
def test_lengths_are_whole_positive_and_begin_with_the_shorter_sample(law):
    values = drawn(law, 500)
    assert values.dtype == np.int64
    assert values.min() >= 1
    np.testing.assert_array_equal(drawn(law, 20), values[:20])
    assert law.is_random == (not np.array_equal(values, drawn(law, 500, seed=2)))


def test_constant_is_exact():
    assert drawn(Constant(value=7), 3).tolist() == [7, 7, 7]


def test_uniform_reaches_both_ends_evenly():
    values, counts = np.unique(drawn(Uniform(min=3, max=12)), return_counts=True)
    assert values.tolist() == list(range(3, 13))
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_uniform_of_one_value_is_not_random():
    law = Uniform(min=5, max=5)
    assert not law.is_random
    assert set(drawn(law, 10).tolist()) == {5}


@pytest.mark.parametrize("cv", [0.2, 1.0, 3.0])
def test_lognormal_has_the_mean_and_cv_asked_for(cv):
    sigma2 = math.log1p(cv**2)
    law = stats.lognorm(math.sqrt(sigma2), scale=1e7 * math.exp(-sigma2 / 2))
    assert law.mean() == pytest.approx(1e7)
    assert law.std() / law.mean() == pytest.approx(cv)
    values = drawn(LogNormal(mean=1e7, cv=cv))  # long enough for rounding not to matter
    assert stats.kstest(values, law.cdf).pvalue > FALSE_ALARM


def test_short_lognormal_lengths_are_rounded_to_the_nearest():
    values = drawn(LogNormal(mean=3.0, cv=0.5))
    sigma = math.sqrt(math.log1p(0.25))
    law = stats.norm(math.log(3.0) - sigma**2 / 2, sigma)
    edges = np.log([1.5, 2.5, 3.5, 4.5, 5.5, 6.5])  # length 1 takes all below 1.5
    expected = np.diff(np.concatenate(([0.0], law.cdf(edges), [1.0]))) * len(values)
    counts = np.bincount(np.minimum(values, 7), minlength=8)[1:]
    assert stats.chisquare(counts, expected).pvalue > FALSE_ALARM


def test_exponential_is_the_geometric_law():
    values = drawn(Exponential(mean=4.0))
    law = stats.geom(0.25)
    assert law.mean() == 4.0
    counts = np.bincount(np.minimum(values, 25), minlength=26)[1:]
    expected = np.append(law.pmf(np.arange(1, 25)), law.sf(24)) * len(values)
    assert stats.chisquare(counts, expected).pvalue > FALSE_ALARM


@given(
    mean=st.floats(20, 400),
    cv=st.floats(0.01, 50),
    low=st.integers(1, 20),
    high=st.integers(400, 900),
)
def test_clipping_changes_only_what_is_out_of_bounds(mean, cv, low, high):
    for law in (LogNormal, Exponential):
        extra = {"cv": cv} if law is LogNormal else {}
        free = drawn(law(mean=mean, **extra), 200)
        clipped = drawn(law(mean=mean, min=low, max=high, **extra), 200)
        np.testing.assert_array_equal(clipped, np.clip(free, low, high))


def test_an_endless_length_is_clipped_too():
    values = drawn(LogNormal(mean=1e9, cv=1e3))
    assert values.max() == 10**9


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"distribution": "constant", "value": 0}, "greater than or equal to 1"),
        ({"distribution": "constant", "value": 1.5}, "valid integer"),
        ({"distribution": "uniform", "min": 5, "max": 4}, r"max\(=4\) must be >= min\(=5\)"),
        (
            {"distribution": "lognormal", "mean": 5, "cv": 1, "min": 4, "max": 3},
            r"max\(=3\) must be >= min\(=4\)",
        ),
        (
            {"distribution": "lognormal", "mean": 500, "cv": 1, "max": 300},
            r"mean\(=500\) must lie between min\(=1\) and max\(=300\)",
        ),
        ({"distribution": "lognormal", "mean": 5, "cv": 0}, "greater than 0"),
        ({"distribution": "exponential", "mean": 1}, "greater than 1"),
        ({"distribution": "empirical", "path": ""}, "at least 1 character"),
        ({"distribution": "normal"}, "'lognormal'"),
    ],
)
def test_senseless_laws_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(LengthLaw).validate_python(config)


def test_a_number_is_the_law_that_always_gives_it():
    lengths = Lengths.model_validate(
        {"prompt": 2000, "output": {"distribution": "constant", "value": 3}}
    )
    assert lengths.prompt == Constant(value=2000)
    assert lengths.model_dump()["prompt"] == {"distribution": "constant", "value": 2000}


@pytest.mark.parametrize("given", [0, -3, 2.5, True, "2000"])
def test_what_is_no_count_is_no_length(given):
    with pytest.raises(ValidationError):
        TypeAdapter(LengthLaw).validate_python(given)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected both prompt and output, or trace"),
        (
            {"prompt": {"distribution": "constant", "value": 1}},
            "expected both prompt and output, or trace",
        ),
        (
            {"trace": "x", "output": {"distribution": "constant", "value": 1}},
            "trace brings both lengths, so it cannot stand beside output",
        ),
    ],
)
def test_senseless_pairs_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        Lengths.model_validate(config)


def test_prompt_and_output_laws_are_independent():
    law = LogNormal(mean=300.0, cv=1.0)
    prompts, outputs = Lengths(prompt=law, output=law).sample(2000, stream(3, "lengths"))
    # The rank correlation of 2000 independent pairs is normal with deviation 1/sqrt(1999).
    assert abs(stats.spearmanr(prompts, outputs).statistic) < 4.9 / math.sqrt(1999)


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "lengths.csv"
    rows = [(i, 1000 - i, i * i) for i in range(1, 401)]
    path.write_text("short,long,square\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    return path


def pair(path, one, two, **more):
    return Lengths(
        prompt=Empirical(path=str(path), column=one),
        output=Empirical(path=str(path), column=two),
        **more,
    )


def test_columns_of_one_file_are_drawn_from_the_same_row(recorded):
    prompts, outputs = pair(recorded, "short", "long").sample(3000, stream(4, "lengths"))
    np.testing.assert_array_equal(prompts + outputs, 1000)
    values, counts = np.unique(prompts, return_counts=True)
    assert len(values) > 395
    assert counts.max() > 1  # with replacement
    all_counts = np.bincount(prompts, minlength=401)[1:]
    assert stats.chisquare(all_counts).pvalue > FALSE_ALARM


def test_they_are_drawn_apart_on_request(recorded):
    lengths = pair(recorded, "short", "long", joint=False)
    prompts, outputs = lengths.sample(3000, stream(4, "lengths"))
    assert np.mean(prompts + outputs == 1000) < 0.1


def test_a_trace_gives_both_lengths(tmp_path):
    path = tmp_path / "vidur.csv"
    path.write_text(
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n10,1,11,10\n20,2,22,10\n"
    )
    lengths = Lengths(trace=str(path))
    prompts, outputs = lengths.sample(50, stream(5, "lengths"))
    np.testing.assert_array_equal(prompts, outputs * 10)
    assert lengths.is_random
    apart = Lengths(trace=str(path), joint=False).sample(50, stream(5, "lengths"))
    assert np.any(apart[0] != apart[1] * 10)
    same = pair(path, "prompt_tokens", "num_decode_tokens").sample(50, stream(5, "lengths"))
    np.testing.assert_array_equal(same, (prompts, outputs))


def test_a_column_can_come_from_csv_gzip_parquet_and_json_lines(tmp_path):
    table = pd.DataFrame({"words": [5, 6, 7], "other": ["a", "b", "c"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.csv.gz", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        assert read_length_column(tmp_path / name, "words").tolist() == [5, 6, 7]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"timestamp": 0, "input_length": 8, "output_length": 9}\n')
    assert read_length_column(lines, "prompt_tokens").tolist() == [8]
    assert read_length_column(lines, "output_tokens").tolist() == [9]


def test_column_errors_name_what_there_is(tmp_path):
    table = pd.DataFrame({"words": [5, 6], "half": [0.5, 1.0], "zero": [3, 0], "gap": [1, None]})
    table.to_csv(tmp_path / "a.csv", index=False)
    table["gap"] = table["gap"].astype("Int64")
    table.to_parquet(tmp_path / "a.parquet")
    table.head(0).astype("int64").to_parquet(tmp_path / "none.parquet")
    (tmp_path / "not.parquet").write_text("words\n1\n")
    cases = [
        ("a.csv", "word", r"a\.csv:1: no column 'word', expected one of words, .*; nearest: words"),
        ("a.csv", "half", r"a\.csv:2: half = '0\.5', expected a whole number of at least 1"),
        ("a.csv", "zero", r"a\.csv:3: zero = '0', expected a whole number of at least 1"),
        ("a.csv", "gap", r"a\.csv:3: gap = '', expected"),
        ("a.parquet", "word", r"a\.parquet: no column 'word', .*; nearest: words"),
        (
            "a.parquet",
            "half",
            r"a\.parquet: row 1: half = '0\.5', expected a whole number of at least 1",
        ),
        ("a.parquet", "gap", r"a\.parquet: row 2: gap = 'None', expected a whole number"),
        (
            "a.parquet",
            "zero",
            r"a\.parquet: row 2: zero = '0', expected a whole number",
        ),
        ("none.parquet", "words", "holds no rows"),
        ("not.parquet", "word", r"not\.parquet:1: no column 'word', expected one of words, "),
        ("b.parquet", "words", "no such file; nearest in that folder: a.parquet"),
    ]
    for name, column, message in cases:
        with pytest.raises(TraceError, match=message):
            read_length_column(tmp_path / name, column)


def test_columns_that_do_not_match_row_by_row_are_refused(tmp_path):
    path = tmp_path / "burst.csv"
    path.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,10,3,13,API log\n6,ChatGPT,20,0,20,API log\n"
    )
    with pytest.raises(TraceError, match="Total tokens has 2 usable rows but output_tokens has 1"):
        pair(path, "Total tokens", "output_tokens").sample(5, stream(0, "lengths"))
