"""The ``explain`` command: say what a kind of cause means."""

from typing import Annotated

import typer

from tools.errors import ToolError
from tools.report.explanations import explanations
from traces.schema.verdict import Kind


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in Kind if kind.startswith(incomplete)]


def explain(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="A kind of cause; all of them when none is named.",
            autocompletion=_complete_kind,
        ),
    ] = None,
) -> None:
    """Say what a kind of cause means, what usually makes it, and where to look."""
    if kind is None:
        width = max(map(len, Kind))
        for known, one in explanations().items():
            print(f"{known:{width}}  {one.title}")
        return
    try:
        found = Kind(kind)
    except ValueError as error:
        expected = "a kind of `goldentrace explain`"
        raise ToolError("KIND", "must be known", expected=expected, got=repr(kind)) from error
    print(explanations()[found].as_text(found), end="")
