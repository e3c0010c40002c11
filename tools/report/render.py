"""Rendering of a verdict in every format of the command line."""

from collections.abc import Callable
from enum import StrEnum

from tools.errors import ToolError
from tools.report.github import render_github
from tools.report.junit import render_junit
from tools.report.markdown import render_markdown
from tools.report.sarif import render_sarif
from tools.report.text import render_text
from traces.schema.verdict import Verdict


class Format(StrEnum):
    """A format of the verdict on stdout."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"


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


def render_verdict(verdict: Verdict, *, form: Format, coloured: bool, strict: bool) -> str:
    """Return the verdict as text that ends with a line end.

    Only ``TEXT`` has terminal colours. When ``strict``, differences of the interface fail.
    """
    renderers: dict[Format, Callable[[], str]] = {
        Format.TEXT: lambda: render_text(verdict, coloured=coloured),
        Format.JSON: verdict.to_json,
        Format.MARKDOWN: lambda: render_markdown(verdict),
        Format.GITHUB: lambda: render_github(verdict, strict=strict),
        Format.SARIF: lambda: render_sarif(verdict, strict=strict),
        Format.JUNIT: lambda: render_junit(verdict, strict=strict),
    }
    return renderers[form]()
