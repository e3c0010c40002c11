"""Rendering of a verdict in every format of the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tools.errors import ToolError
from tools.report.github import render_github
from tools.report.junit import render_junit
from tools.report.markdown import render_markdown
from tools.report.sarif import render_sarif
from tools.report.text import render_text
from traces.schema.verdict import Verdict
from traces.text.cause_block import PLAIN, TextLayout


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


@dataclass(frozen=True, slots=True)
class FormatFile:
    """A form of the verdict, and the file that it is written to."""

    form: Format
    path: Path


def parse_format_file(text: str) -> FormatFile:
    """Return the format and the file of ``FORMAT=FILE``.

    Raises:
        ToolError: it has no such form, or the format is unknown.
    """
    form, separator, path = text.partition("=")
    if not separator or not path:
        raise ToolError("--output", "must name both", expected="FORMAT=FILE", got=repr(text))
    return FormatFile(parse_format(form), Path(path))


def render_verdict(
    verdict: Verdict, *, form: Format, strict: bool, layout: TextLayout = PLAIN
) -> str:
    """Return the verdict as text that ends with a line end.

    Only ``TEXT`` has a layout. When ``strict``, differences of the interface fail.
    """
    renderers: dict[Format, Callable[[], str]] = {
        Format.TEXT: lambda: render_text(verdict, layout=layout),
        Format.JSON: verdict.to_json,
        Format.MARKDOWN: lambda: render_markdown(verdict),
        Format.GITHUB: lambda: render_github(verdict, strict=strict),
        Format.SARIF: lambda: render_sarif(verdict, strict=strict),
        Format.JUNIT: lambda: render_junit(verdict, strict=strict),
    }
    return renderers[form]()
