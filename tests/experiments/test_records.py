"""Small tables without pandas: as pandas would have made and written them."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from experiments.reporting.records import Records
from experiments.running.arrow import array_of, numbers, values_of
from tests.tries import tries

WHOLE = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text('aé,"\n |0', max_size=4)
KINDS = (
    WHOLE,
    st.one_of(st.integers(-(2**50), 2**50), st.none()),
    st.one_of(st.floats(), st.integers(-5, 5)),
    st.booleans(),
    st.one_of(TEXT, st.none()),
    st.one_of(st.none(), WHOLE, st.floats(), st.booleans(), TEXT),
)
COLUMNS = st.one_of(*(st.lists(kind, min_size=3, max_size=3) for kind in KINDS))
PLAIN = (st.integers(-(2**40), 2**40), st.floats(allow_nan=False), st.booleans(), TEXT)
"""Values that Arrow holds."""


@tries(100)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), COLUMNS, min_size=1, max_size=4))
def test_values_kinds_and_csv_are_those_of_pandas(columns: dict[str, list[Any]]) -> None:
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    records, frame = Records.of(rows), pd.DataFrame(rows)
    assert records.csv() == frame.to_csv(index=False, lineterminator="\n")
    assert repr(records.rows()) == repr(frame.to_dict("records"))
    pd.testing.assert_frame_equal(records.frame(), frame)
    pd.testing.assert_frame_equal(Records.of_frame(frame).frame(), frame)
    for name in columns:
        assert records.is_numeric(name) == pd.api.types.is_numeric_dtype(frame[name])


def test_rows_may_lack_columns_and_are_chosen() -> None:
    table = Records.of([{"a": 1, "b": "x"}, {"a": 2, "c": 3}], ["c"])
    assert list(table) == ["c", "a", "b"]
    assert table.csv() == "c,a,b\n,1,x\n3.0,2,\n"
    assert table.where("a", 2).csv() == "c,a,b\n3.0,2,\n"
    assert table.at([1, 0])["a"] == [2, 1]
    assert table.having(a=["y", "z"], d=[1, 2]).csv() == "c,a,b,d\n,y,x,1\n3.0,z,,2\n"
    assert (len(table), len(Records.of([]))) == (2, 0)


@tries(100)
@given(st.one_of(*(st.lists(st.one_of(kind, st.none()), max_size=20) for kind in PLAIN)))
def test_arrow_arrays_are_those_of_arrow(values: list[Any]) -> None:
    found = array_of(values)
    found.validate(full=True)
    assert found.equals(pa.array(values))
    assert found.type == pa.array(values).type


def test_columns_of_several_chunks_become_one() -> None:
    parts = [np.arange(3.0), np.arange(2.0)]
    assert values_of(pa.chunked_array([numbers(part) for part in parts])).tolist() == [
        0,
        1,
        2,
        0,
        1,
    ]
    assert values_of(pa.chunked_array([], pa.int8())).dtype == np.int8


def test_numbers_in_a_file_are_those_of_repr() -> None:
    drawn = np.random.default_rng(0)
    bits = drawn.integers(0, 2**63, 4000, dtype=np.uint64).view(np.float64)
    values = [
        *(10 ** drawn.uniform(-6, 18, 4000)).tolist(), *(-drawn.random(100)).tolist(),
        *map(float, range(50)), *bits.tolist(), 0.1 + 0.2, 1e-4, 9.999e-5, 1e16, 2.0**53,
        -0.0, 5e-324, math.inf, -math.inf, math.nan,
    ]  # fmt: skip
    lines = Records({"value": values, "place": range(len(values))}).csv().splitlines()[1:]
    found = [line.split(",")[0] for line in lines]
    assert found == ["" if math.isnan(value) else repr(value) for value in values]
