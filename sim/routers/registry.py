"""The routers by the names that studies use, a row each; one of one's own by its dotted path."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from model.errors import one_of
from model.rows import Rows
from sim.named import named
from sim.plugins import NONE, built, check_own, class_of, is_own, try_out
from sim.routers.blind import RoundRobin
from sim.routers.router import VIEWS, Looks, ReplicaFacts, Router, View

ROUTERS: Final = Rows[type[Router]](
    {
        "round_robin": "sim.routers.blind:RoundRobin",
        "random": "sim.routers.blind:Random",
        "least_requests": "sim.routers.loads:LeastRequests",
        "least_tokens": "sim.routers.tokens:LeastTokens",
        "power_of_two_choices": "sim.routers.loads:PowerOfTwoChoices",
        "session_affinity": "sim.routers.sessions:SessionAffinity",
        "consistent_hashing": "sim.routers.hashing:ConsistentHashing",
        "bounded_consistent_hashing": "sim.routers.hashing:BoundedConsistentHashing",
        "prefix_hash": "sim.routers.hashing:PrefixHash",
        "cache_aware": "sim.routers.cache_aware:CacheAware",
        "llm_d": "sim.routers.llm_d:LlmD",
        "dynamo": "sim.routers.dynamo:Dynamo",
    }
)
Given = Mapping[str, Any]
"""Settings of a router, as a study says."""


def router_class(name: str) -> type[Router]:
    """Return the router of a name, or dotted path.

    Raises:
        ValueError: there is none, with the nearest; or a class that is not to be had.
    """
    return class_of(name, ROUTERS, Router)


def check_router(name: str, given: Given) -> None:
    """Check that a router can be made with these settings.

    Raises:
        ValueError: it cannot; of one that is built in and has settings, pydantic's, with places.
    """
    kind = router_class(name)
    if kind.settings is not None:
        known = tuple(kind.settings.model_fields)
        for key in given:
            if key not in known:
                raise ValueError(f"unknown key {key} of {name}: {one_of(key, known)}")
        kind.settings.model_validate(given)
        return
    if not is_own(name) and given:
        with_any = [key for key, each in ROUTERS.items() if each.settings is not None]
        raise ValueError(
            f"{name} has no settings, expected none, or cluster.router one of "
            f"{', '.join(with_any)}, or a class of yours, named MODULE:CLASS"
        )
    check_own(name, given, kind, parts=2)
    if is_own(name):
        if not isinstance(getattr(kind, "looks_at", None), Looks):
            raise ValueError(
                f"{name} says nothing of what it looks at, expected "
                "looks_at = Looks.NOTHING, LOADS, TOKENS or CACHES"
            )
        facts = ReplicaFacts("", "", 1, 8, 1024, 1024)
        try_out(kind, given, VIEWS[kind.looks_at]((facts, facts)), np.random.default_rng(0))


def reads_caches(name: str, given: Given) -> bool:
    """Return whether a router is told what engines have cached, with these settings."""
    kind = router_class(name)
    if kind.looks_at != Looks.CACHES:
        return False
    return kind.settings is None or kind.settings.model_validate(given).reads_caches


def made_of(kind: type[Router], view: View, rng: np.random.Generator, given: Given) -> Router:
    """Return a router of a class, with settings."""
    if kind.settings is None:
        return built(kind, given, view, rng)
    return built(kind, NONE, view, rng, kind.settings.model_validate(given))


def make_router(
    name: str, replicas: tuple[ReplicaFacts, ...], rng: np.random.Generator, given: Given = NONE
) -> Router:
    """Return a router over these replicas, with a view of as much as it looks at.

    Raises:
        ValueError: the name is unknown.
    """
    if len(replicas) == 1:  # no choice
        return RoundRobin(View(replicas), rng)
    kind = router_class(name)
    return made_of(kind, VIEWS[kind.looks_at](replicas), rng, given)


class _OfEveryRouter:
    """Lets the schema of a study know the settings of all routers that are built in."""

    @staticmethod
    def __get_pydantic_json_schema__(
        core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        models = [each.settings for each in ROUTERS.values() if each.settings is not None]
        rows: list[JsonSchemaValue] = [
            handler(model.__pydantic_core_schema__) for model in dict.fromkeys(models)
        ]
        return {"anyOf": [*rows, handler(core)]}


RouterName = Annotated[str, *named(router_class, ROUTERS)]
RouterSettings = Annotated[
    dict[str, Any], Field(validate_default=True, max_length=100), _OfEveryRouter
]
"""Settings of a router, by name."""
