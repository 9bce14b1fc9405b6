"""What every page is made of: one template, one style, one chart module, its data inside.

The same data give the same bytes. A page allows itself nothing but its own scripts and its own
style (by their SHA-256), so that no name in a study can do more than be read.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcssmin import cssmin
from rjsmin import jsmin

if TYPE_CHECKING:
    import jinja2

ASSETS = Path(__file__).with_name("assets")
TEMPLATES = Path(__file__).parents[1] / "templates"
CHARTS = ("charts.js", "pointing.js", "plots.js", "rows.js")
"""The scripts that every page has."""


def rendered(
    template: str, scripts: Sequence[str], data: object, styles: Sequence[str] = (), **about: Any
) -> str:
    """Return a page.

    Args:
        template: its name.
        scripts: of this kind of page, behind ``CHARTS``.
        data: what they draw.
        styles: of this kind of page, behind that of all.
        about: whatever the template asks for.
    """
    style = "\n".join(asset(name) for name in ("page.css", *styles))
    script = "\n".join(asset(name) for name in (*CHARTS, *scripts))
    text = environment().get_template(template).render(
        data=embedded(data), style=style, style_sha=sha(style), script=script,
        script_sha=sha(script), **about,
    )  # fmt: skip
    return text + "\n"


def write(path: Path, text: str) -> None:
    """Write a page, the same bytes on every machine."""
    path.write_text(text, encoding="utf-8", newline="\n")


def environment() -> "jinja2.Environment":
    """Return what fills in templates; every text is escaped."""
    import jinja2

    from experiments.reporting.page.compiled_templates import cache_of

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), bytecode_cache=cache_of(TEMPLATES),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def embedded(data: object) -> str:
    """Return JSON that can stand inside a script element: no text of it ends the element."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def data_of(page: str) -> Mapping[str, Any]:
    """Return the data of a page that was written here.

    Raises:
        ValueError: there are none in it.
    """
    _, found, rest = page.partition('<script type="application/json" id="data">')
    if not found:
        raise ValueError("this is no page of headroom: it has no data")
    data: Mapping[str, Any] = json.loads(rest.partition("</script>")[0])
    return data


@cache
def asset(name: str) -> str:
    """Return a script or a style as a page holds it: without comments and needless spaces."""
    text = (ASSETS / name).read_text(encoding="utf-8")
    return str(cssmin(text) if name.endswith(".css") else jsmin(text))


def sha(text: str) -> str:
    """Return the digest by which a page allows itself a script."""
    return b64encode(sha256(text.encode()).digest()).decode("ascii")
