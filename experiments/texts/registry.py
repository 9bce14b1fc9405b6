"""Every table by name: where its schema is, which also computes it."""

from importlib import import_module

from experiments.study.document import Loaded
from experiments.study.errors import Problem, StudyError, nearest, show
from experiments.texts.page import TableStudy

TABLES = {
    "memory_and_batch": ("memory", "MemoryAndBatch"),
    "opt_175b": ("kv_cache", "Opt175b"),
    "attention_intensity": ("attention", "AttentionIntensity"),
    "gpt2_xl_t4": ("forward_pass", "Gpt2XlT4"),
    "a100_bounds": ("bounds", "A100Bounds"),
    "roofline_basics": ("basics", "RooflineBasics"),
    "speculative_decoding_bound": ("speculative", "SpeculativeDecodingBound"),
    "operator_classes": ("operator_classes", "OperatorClasses"),
}
"""Name of a table: the module of this package, and the schema in it."""


def table_schema(name: str) -> type[TableStudy]:
    """Return the schema of a table that exists."""
    module, schema = TABLES[name]
    found: type[TableStudy] = getattr(import_module(f"experiments.texts.{module}"), schema)
    return found


def schema_of(loaded: Loaded) -> type[TableStudy]:
    """Return the schema that a study's key ``table`` names.

    Raises:
        StudyError: no such table, or none named; names the nearest.
    """
    name = loaded.raw.get("table")
    if isinstance(name, str) and name in TABLES:
        return table_schema(name)
    what = "table: missing" if name is None else f"table = {show(name)}"
    text = f"{what}, expected one of {', '.join(TABLES)}{nearest(name, tuple(TABLES))}"
    raise StudyError([Problem(loaded.where(("table",)), text), *loaded.document.problems])
