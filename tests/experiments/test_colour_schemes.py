"""A page is laid out alike in every scheme of colours, so a browser looks at each width in one."""

import re
from pathlib import Path

import pytest

from experiments.reporting import page

ASSETS = sorted((Path(page.__file__).parent / "assets").iterdir())
SCHEME = re.compile(
    r"@media screen and \(prefers-color-scheme: dark\) \{\s*:root \{([^{}]*)\}\s*\}"
)
COLOUR = re.compile(r"--[a-z0-9-]+: (#[0-9a-f]{6}|rgba\([0-9., ]+\))")


@pytest.mark.parametrize("asset", ASSETS, ids=lambda path: path.name)
def test_a_scheme_changes_colours_and_nothing_else(asset: Path) -> None:
    text = asset.read_text(encoding="utf-8")
    schemes = SCHEME.findall(text)
    assert len(schemes) == text.count("color-scheme")
    assert "matchMedia" not in text
    for declarations in schemes:
        for each in declarations.strip().rstrip(";").split(";"):
            assert COLOUR.fullmatch(each.strip()), each


def test_there_is_a_scheme_to_look_at() -> None:
    assert any(SCHEME.search(asset.read_text(encoding="utf-8")) for asset in ASSETS)
