"""When which version of vLLM came out, for runs that tell their date and not their version."""

import re
from datetime import date

RELEASES = {
    "0.5.0": "2024-06-11", "0.6.0": "2024-09-05", "0.6.5": "2024-12-18", "0.7.0": "2025-01-27",
    "0.8.0": "2025-03-18", "0.8.5": "2025-04-28", "0.9.0": "2025-05-28", "0.9.2": "2025-07-08",
    "0.10.0": "2025-07-25", "0.10.2": "2025-09-13", "0.11.0": "2025-10-04", "0.12.0": "2025-12-03",
    "0.13.0": "2025-12-19", "0.14.0": "2026-01-20", "0.15.0": "2026-01-29", "0.16.0": "2026-02-26",
    "0.17.0": "2026-03-07", "0.18.0": "2026-03-20", "0.19.0": "2026-04-03", "0.20.0": "2026-04-27",
    "0.21.0": "2026-05-15", "0.22.0": "2026-05-29", "0.23.0": "2026-06-15", "0.24.0": "2026-06-30",
    "0.25.0": "2026-07-11", "0.26.0": "2026-07-25", "0.27.0": "2026-08-10", "0.28.0": "2026-08-26",
    "0.29.0": "2026-09-09", "0.30.0": "2026-09-22", "0.31.0": "2026-10-05", "0.32.0": "2026-10-18",
    "0.33.0": "2026-11-02",
}  # fmt: skip
"""Versions and the days on which they appeared (pypi.org/project/vllm/#history): the first of each
minor one, and those that changed defaults."""

MID_MONTH = "-15"
"""The day of a run that tells the month alone."""

_DATE = r"(20(?:2[4-9]|3\d)-(?:0[1-9]|1[0-2]))(-(?:0[1-9]|[12]\d|3[01]))?(?![\d.])"
_SAID = re.compile(rf"(?<![\d.]){_DATE}")
_MEASURED = re.compile(rf"\bmeasured[ =:]+(?:in |on )?{_DATE}")
_AHEAD = re.compile(r"\b(?:nightly|main|dev|head|trunk)\b")
"""Words for a build of what the next release will be."""


def version_at(version: str | None, notes: str, run_id: str) -> tuple[str, str] | None:
    """Return the version of a run that tells no number but a date, and that date.

    A date in the version goes before ``measured=YYYY-MM`` in the notes, and that before a day in
    the run's name, which also tells the day of a month. It is the newest release of that date, or
    for a nightly build the next one, if that is nearer.

    Returns:
        None without a date, or with one before the first known release.
    """
    words = (version or "").lower()
    found = _SAID.search(words) or _MEASURED.search(notes.lower())
    named = next((day for day in _SAID.finditer(run_id) if day[2]), None)
    if found is None or (named is not None and not found[2] and found[1] == named[1]):
        found = named
    if found is None:
        return None
    day = found[1] + (found[2] or MID_MONTH)
    known = list(RELEASES)
    out = sum(released <= day for released in RELEASES.values())
    if not out:
        return None
    ahead = _AHEAD.search(words) is not None and out < len(known) and _is_nearer(day, out)
    return known[out - 1 + ahead], found[1] + (found[2] or "")


def _is_nearer(day: str, place: int) -> bool:
    """Whether the release at a place is nearer to a day before it than the one before is."""
    before, after = (
        date.fromisoformat(each) for each in list(RELEASES.values())[place - 1 : place + 1]
    )
    return after - date.fromisoformat(day) <= date.fromisoformat(day) - before
