"""Keys that vLLM has and a study has not: which one is meant, or that it is not modelled."""

from functools import cache
from pathlib import Path
from typing import Any

from experiments.study.yaml_source import parse_yaml
from model.nearest import closest

FILE = Path(__file__).with_name("vllm_keys.yaml")


@cache
def meant() -> dict[str, tuple[str, ...]]:
    """Return the keys of a study by what vLLM, its benchmark or people call them."""
    return {name: tuple(keys) for name, keys in _table()["meant"].items()}


@cache
def not_modelled() -> dict[str, str]:
    """Return what to say of every other key of vLLM."""
    table = _table()
    found = dict.fromkeys(
        table["not_modelled"].split(), "is vLLM's and is not modelled: leave it out, and do not "
        "expect its effect"
    )  # fmt: skip
    return found | dict.fromkeys(
        table["without_effect"].split(), "is vLLM's and is not modelled, since it changes nothing "
        "that is simulated: leave it out"
    )  # fmt: skip


@cache
def _table() -> dict[str, Any]:
    data = parse_yaml(FILE.read_text(encoding="utf-8"), FILE.name).data
    assert isinstance(data, dict)
    return data


def names() -> tuple[str, ...]:
    """Return every name of the table."""
    return (*meant(), *not_modelled())


def said_of(word: str) -> str:
    """Say what becomes of a key of vLLM, also of ``--flag`` or ``no_key``; nothing if of none."""
    name = word.strip().lower().removeprefix("--").replace("-", "_")
    for known in (name, name.removeprefix("no_")):
        if known in meant():
            besides = _table()["besides"].get(known)
            return f"here it is {' or '.join(meant()[known])}{f', {besides}' if besides else ''}"
        if known in not_modelled():
            return f"it {not_modelled()[known]}"
    return ""


def said_of_nearest(word: str, keys: tuple[str, ...]) -> str:
    """The same for a misspelt key, if vLLM's is nearer than any of ``keys``."""
    found = closest(word, (*keys, *names()))
    return f"if {found} is meant, {said_of(found)}" if found and found not in keys else ""
