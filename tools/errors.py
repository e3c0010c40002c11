"""Errors of the command line: one line for the user, exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_INTERRUPTED = 130


class ToolError(Exception):
    """A request that cannot be carried out.

    Every message reads *subject: rule; expected X, got Y*, on one line.

    Attributes:
        subject: what is wrong: an option, a file, a scenario.
    """

    def __init__(self, subject: str, rule: str, *, expected: object, got: object) -> None:
        super().__init__(one_line(f"{subject}: {rule}; expected {expected}, got {got}"))
        self.subject = subject


def one_line(text: str) -> str:
    """Return the text with every run of white space, line ends included, made one space."""
    return " ".join(text.split())


@contextmanager
def require_writable_path(path: Path, *, expected: str) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a :class:`ToolError` about a path.

    Raises:
        ToolError: something could not be written.
    """
    try:
        yield
    except OSError as error:
        got = error.strerror or error
        raise ToolError(str(path), "must be writable", expected=expected, got=got) from error
