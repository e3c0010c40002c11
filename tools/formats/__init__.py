"""A verdict in the forms that people and machines read."""

from collections.abc import Callable
from enum import StrEnum

from tools.errors import ToolError
from tools.formats.github import as_github
from tools.formats.markdown import as_markdown
from tools.formats.text import as_text
from traces.verdict import Verdict

__all__ = ["Format", "as_text", "parse_format", "rendered"]


class Format(StrEnum):
    """A form of the verdict on stdout."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"


def parse_format(text: str) -> Format:
    """Return the format of that name.

    Raises:
        ToolError: there is none.
    """
    try:
        return Format(text)
    except ValueError as error:
        known = ", ".join(Format)
        raise ToolError("--format", "must be known", expected=known, got=repr(text)) from error


def rendered(verdict: Verdict, *, form: Format, coloured: bool, strict: bool) -> str:
    """Return the verdict as text that ends with a line end.

    Only the text form has terminal colours. When ``strict``, differences of the interface fail.
    """
    forms: dict[Format, Callable[[], str]] = {
        Format.TEXT: lambda: as_text(verdict, coloured=coloured),
        Format.JSON: verdict.to_json,
        Format.MARKDOWN: lambda: as_markdown(verdict),
        Format.GITHUB: lambda: as_github(verdict, strict=strict),
    }
    return forms[form]()
