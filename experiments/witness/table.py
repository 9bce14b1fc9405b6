"""The table of versions and features, from what comparisons left behind."""

import json
from pathlib import Path

from experiments.witness.environment import version_key


def markdown(folder: Path) -> str:
    """Return the table: scenarios compared, with preemption, different; newest version first.

    Raises:
        FileNotFoundError: no comparison left anything in the folder.
    """
    paths = sorted(folder.glob("*.json"), key=lambda path: version_key(path.stem), reverse=True)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no VERSION.json, as compare --out writes it")
    found = {path.stem: json.loads(path.read_text())["features"] for path in paths}
    features = list(dict.fromkeys(name for rows in found.values() for name in rows))
    lines = [
        f"| vLLM | {' | '.join(features)} | together |",
        "|---" * (len(features) + 2) + "|",
    ]
    for version, rows in found.items():
        cells = [_cell(rows[name]) if name in rows else "-" for name in features]
        lines.append(f"| {version} | {' | '.join(cells)} | {_sum(list(rows.values()))} |")
    return "\n".join(lines)


def _cell(tally: dict[str, object]) -> str:
    if tally["lacks"]:
        return "-"
    different = tally["different"]
    assert isinstance(different, list)
    named = " (named)" if different and tally.get("name") else ""
    return f"{tally['compared']} / {tally['preempted']} / {len(different)}{named}"


def _sum(tallies: list[dict[str, object]]) -> str:
    compared, preempted, different = 0, 0, 0
    for tally in tallies:
        compared += int(str(tally["compared"]))
        preempted += int(str(tally["preempted"]))
        assert isinstance(tally["different"], list)
        different += len(tally["different"])
    return f"**{compared:,} / {preempted} / {different}**"
