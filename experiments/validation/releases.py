"""When which version of vLLM came out, for runs that tell their date and not their version."""

import re

RELEASES = (
    ("0.5", "2024-06"),
    ("0.6", "2024-09"),
    ("0.7", "2025-01"),
    ("0.8", "2025-03"),
    ("0.9", "2025-05"),
    ("0.10", "2025-07"),
    ("0.11", "2025-10"),
    ("0.12", "2025-12"),
    ("0.14", "2026-01"),
    ("0.15", "2026-02"),
)
"""Minor versions and the months of their first releases (github.com/vllm-project/vllm/releases)."""

_MEASURED = re.compile(r"measured=(\d{4}-\d{2})")


def version_at(notes: str) -> tuple[str, str] | None:
    """Return the version that was the newest when a row says it was measured, and that month.

    None when the row's notes hold no ``measured=YYYY-MM``, or one before the first known release.
    """
    found = _MEASURED.search(notes)
    if found is None:
        return None
    before = [version for version, month in RELEASES if month <= found[1]]
    return (before[-1], found[1]) if before else None
