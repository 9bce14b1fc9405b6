"""Tables of versions and features, from what comparisons left behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.witness.comparison import name_of
from experiments.witness.environment import version_key
from experiments.witness.features import FEATURES

Tallies = Mapping[str, Mapping[str, Any]]

FAMILIES = {
    "handover drafts groups": "Drafts with prefill and decode in two engines, in several groups of "
    "the KV cache",
    "drafts groups": "Drafts in several groups of the KV cache",
    "handover drafts": "Drafts with prefill and decode in two engines",
    "handover groups": "Prefill and decode in two engines, several groups of the KV cache",
    "store groups": "KV in a store below the host's memory, in several groups",
    "host groups": "KV in the host's memory, in several groups",
    "groups": "Several groups of the KV cache",
    "host drafts": "Drafts with KV in the host's memory",
    "store": "KV in a store below the host's memory",
    "host": "KV in the host's memory",
    "drafts": "Drafts",
    "stages": "Pipeline stages",
    "handover": "Prefill and decode in two engines",
    "v0": "v0's scheduler",
}
"""Tables of their own, by parts of a feature: the first that has all."""


def markdown(folder: Path) -> str:
    """Return the tables, newest version first: scenarios compared, with preemption, different.

    Raises:
        FileNotFoundError: no comparison left anything in the folder.
    """
    paths = sorted(folder.glob("*.json"), key=lambda path: version_key(path.stem), reverse=True)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no VERSION.json, as compare --out writes it")
    found = {path.stem: json.loads(path.read_text())["features"] for path in paths}
    for version, tallies in found.items():
        for feature, row in tallies.items():
            row["named"] = bool(name_of(version, feature))
    parts = [_overview(found)]
    for family in (None, *FAMILIES):
        rows = {
            version: {name: row for name, row in tallies.items() if _family(name) == family}
            for version, tallies in found.items()
        }
        title = FAMILIES[family] if family else "One group"
        parts += _family_table(title, rows)
    return "\n\n".join(parts)


def _family(feature: str) -> str | None:
    parts = FEATURES[feature]
    return next((one for one in FAMILIES if parts.issuperset(one.split())), None)


def _overview(found: Mapping[str, Tallies]) -> str:
    lines = ["| vLLM | scenarios | with preemption | different by a name | without |"]
    lines.append("|---" * 5 + "|")
    for version, rows in found.items():
        named = sum(len(row["different"]) for row in rows.values() if row["named"])
        others = sum(len(row["different"]) for row in rows.values() if not row["named"])
        compared = sum(row["compared"] for row in rows.values())
        preempted = sum(row["preempted"] for row in rows.values())
        lines.append(f"| {version} | {compared:,} | {preempted:,} | {named} | **{others}** |")
    return "\n".join(lines)


def _family_table(title: str, found: Mapping[str, Tallies]) -> list[str]:
    """A heading and a table; nothing if nobody has the family."""
    features = list(dict.fromkeys(name for rows in found.values() for name in rows))
    features = [
        name
        for name in features
        if any(not rows[name]["lacks"] for rows in found.values() if name in rows)
    ]
    if not features:
        return []
    lines = [f"| vLLM | {' | '.join(features)} |", "|---" * (len(features) + 1) + "|"]
    for version, rows in found.items():
        cells = [_cell(rows[name]) if name in rows else "-" for name in features]
        if set(cells) != {"-"}:
            lines.append(f"| {version} | {' | '.join(cells)} |")
    return [f"{title}:", "\n".join(lines)]


def _cell(tally: Mapping[str, Any]) -> str:
    if tally["lacks"]:
        return "-"
    named = " (named)" if tally["different"] and tally["named"] else ""
    return f"{tally['compared']} / {tally['preempted']} / {len(tally['different'])}{named}"
