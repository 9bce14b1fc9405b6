"""Scripts and styles as pages hold them: without comments, and without spaces that nobody needs.

Names stay as they are, so that a page can still be read. Texts, templates and patterns are never
touched: a script is taken apart into them and the code between.
"""

import re
from collections.abc import Iterator

STYLE_SPACES = re.compile(r"(?<=[a-z0-9-]:) (?=[^{}]*[;}])|(?<=[,;{}]) | (?=[{}])")
"""Of a style, where nobody reads them."""
CODE_SPACES = re.compile(r" *([=<>!&|?:*,;{}()\[\]]) *|(?<=[\w)\]\0]) ([-+/]) (?=[\w(\[.\0])")
"""About the signs of a script; ``a - -b`` keeps its own."""
ENDS = re.compile(r";\n?(?=\})|(?<=[{;,(\[=?:&|>+])\n|\n(?=[})\].?:&|+])")
"""Ends of lines that end nothing."""
ALONE = re.compile(r"(?<![\w$])\((\w+)\)(?==>)|(?<=[\w)\]}\0]),(?=[)\]}])")
"""Brackets about the only argument of a function, and a comma behind the last of a list."""
BEFORE_PATTERN = "(,=:[!&|?{};>\n"
"""Behind one of these a slash begins a pattern; else it divides."""
PATTERN = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n])+/[a-z]*")
TEXT = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""")
REMARK = re.compile(r" *//.*")


def style(text: str) -> str:
    """Return a style on one line."""
    lines = (line.strip() for line in text.splitlines())
    return STYLE_SPACES.sub("", " ".join(line for line in lines if line)).replace(";}", "}")


def script(text: str) -> str:
    """Return a script of the same meaning."""
    parts = list(_parts(text))
    # What is left out of code is looked for in all of it, with a mark for each text in it.
    code = "".join(part if is_code else "\0" for is_code, part in parts)
    lines = (line.strip() for line in code.splitlines())
    code = "\n".join(line for line in lines if line)
    code = ENDS.sub("", CODE_SPACES.sub(lambda found: found[1] or found[2], code))
    code = ALONE.sub(lambda found: found[1] or "", code)
    texts = iter([part for is_code, part in parts if not is_code])
    return re.sub("\0", lambda _: next(texts), code)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Yield a script in pieces: whether it is code, and the piece.

    A template yields the texts about what is put into it, which is code again.
    """
    begin = at = 0
    depths: list[int] = []  # open braces of each template that is being put something into
    while at < len(text):
        sign = text[at]
        if text.startswith("//", at):
            yield True, text[begin:at]
            begin = at = REMARK.match(text, at).end()  # type: ignore[union-attr]
            continue
        end = at
        if sign in "\"'" and (found := TEXT.match(text, at)):
            end = found.end()
        elif sign == "/" and _last(text, at) in BEFORE_PATTERN:
            found = PATTERN.match(text, at)
            end = found.end() if found else at
        elif sign == "`" or (sign == "}" and depths and depths[-1] == 0):
            if sign == "}":
                depths.pop()
            end = _template(text, at + 1)
            if text[end - 1] == "{":
                depths.append(0)
        elif depths and sign in "{}":
            depths[-1] += 1 if sign == "{" else -1
        if end > at:
            yield True, text[begin:at]
            yield False, text[at:end]
            begin = at = end
        else:
            at += 1
    yield True, text[begin:]


def _template(text: str, at: int) -> int:
    """Return where the text of a template ends: behind its last sign, or behind ``${``."""
    while text[at] != "`" and text[at : at + 2] != "${":
        at += 2 if text[at] == "\\" else 1
    return at + (1 if text[at] == "`" else 2)


def _last(text: str, at: int) -> str:
    """The sign before a place, spaces apart."""
    return text[:at].rstrip(" ")[-1:] or "\n"
