"""What is said of a class that breaks a rule."""

from collections.abc import Iterator
from contextlib import contextmanager


class ConformanceError(AssertionError):
    """A rule that a class breaks.

    Attributes:rule: its name.
        what: what is wrong, and where.
    """

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule, self.what = rule, what


@contextmanager
def in_case(about: object) -> Iterator[None]:
    """Let a broken rule say in which case, and what goes wrong otherwise be a broken rule."""
    try:
        yield
    except ConformanceError as error:
        raise ConformanceError(error.rule, f"{error.what}; {about}") from None
    except Exception as error:
        raise ConformanceError(
            "runs without an error", f"{type(error).__name__}: {error}; {about}"
        ) from error
