"""What stands below the fields of a class: its attribute docstrings, read when they are asked for.

pydantic can read them (``use_attribute_docstrings``) while a class is made. For the 60 classes of a
study that is a sixth of the start of a short run, which shows none of them.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from textwrap import dedent


@cache
def attribute_docstrings(of: type) -> dict[str, str]:
    """Return the docstring of each field of a class and of those that it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(of.__mro__):
        if each.__module__ not in ("builtins", "typing") and "pydantic" not in each.__module__:
            found.update(_own(each))
    return found


def _own(of: type) -> Iterator[tuple[str, str]]:
    try:
        (node,) = ast.parse(dedent(inspect.getsource(of))).body
    except (OSError, TypeError):  # no source: made while a program runs
        return
    body = node.body if isinstance(node, ast.ClassDef) else []
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield field.target.id, inspect.cleandoc(text)
