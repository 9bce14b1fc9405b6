"""A study as a person would write it: without what is the default anyway."""

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from experiments.study.document import Study
from experiments.study.grid import substitute
from experiments.study.keys import key_path
from experiments.study.schema import value_at

SIZED = ("cluster.gpu", "cluster.tensor_parallel_size", "cluster.replicas")
"""What a buyer looks for, whether or not it is the default; of each pool as well."""


def stated(study: Study, chosen: Iterable[str]) -> dict[str, Any]:
    """Return what a study says that is no default, and its ``chosen`` keys; in its own order."""
    whole = study.resolved()
    found = _without_defaults(study, whole)
    pools = study.cluster.pools is not None
    if pools:
        found["cluster"]["pools"] = [
            _pool(shown, data, whole["engine"])
            for shown, data in zip(
                found["cluster"]["pools"], whole["cluster"]["pools"], strict=True
            )
        ]
    for key in (*chosen, *(() if pools else SIZED)):
        path = key_path(key)
        value = value_at(whole, path)
        if isinstance(value, str | int | float) and all(isinstance(part, str) for part in path):
            found = substitute(found, {key: value})
    return _in_order(found, whole)


def _without_defaults(model: BaseModel, whole: dict[str, Any]) -> dict[str, Any]:
    """Leave defaults out of the plain data of a model, but for what tells its kind."""
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        tells = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
        if value == field.get_default(call_default_factory=True) and not tells:
            continue
        if isinstance(value, BaseModel):
            found[name] = _without_defaults(value, whole[name])
        elif isinstance(value, list | tuple) and all(isinstance(each, BaseModel) for each in value):
            found[name] = [
                _without_defaults(each, data) for each, data in zip(value, whole[name], strict=True)
            ]
        else:
            found[name] = whole[name]
    return found


def _pool(shown: dict[str, Any], data: dict[str, Any], engine: dict[str, Any]) -> dict[str, Any]:
    """A pool says of its engine what differs from the study's, defaults or not."""
    own = {key: value for key, value in data["engine"].items() if value != engine[key]}
    told = {*shown, *(key.removeprefix("cluster.") for key in SIZED)} - {"engine"}
    rest = {key: value for key, value in data.items() if key in told}
    return {**rest, "engine": own} if own else rest


def _in_order(data: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _in_order(data[key], whole)
        if isinstance(whole, dict) and isinstance(data[key], dict)
        else data[key]
        for key, whole in like.items()
        if key in data
    }
