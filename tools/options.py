"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, Protocol, TypeAlias

import typer

from tools.desk import DEVICES, Desk
from tools.errors import ToolError
from tools.formats import Format, parse_format
from tools.sides import TARGETS

DEFAULT_LIMIT_SECONDS = 120.0


class OpenDesk(Protocol):
    """Gives a verb its desk; rides on the typer context."""

    def __call__(self, *, target: str, limit_seconds: float) -> Desk:
        """Return a desk for a target; a scenario may take ``limit_seconds``."""


def opener(context: typer.Context) -> OpenDesk:
    """Return the function that opens desks."""
    found: OpenDesk = context.obj
    return found


def _positive(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ToolError("--timeout", "must be positive", expected="seconds", got=repr(text))
    return seconds


Names: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCENARIO", help="Scenarios; all of them when none is named."),
]
Target: TypeAlias = Annotated[
    str, typer.Option(metavar="|".join(TARGETS), help="Code under guard.")
]
DeviceOption: TypeAlias = Annotated[
    str, typer.Option("--device", metavar="|".join(DEVICES), help="Where the stacks are built.")
]
Limit: TypeAlias = Annotated[
    float,
    typer.Option(
        "--timeout", parser=_positive, metavar="SECONDS", help="Time one scenario may take."
    ),
]
FormatOption: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--format", parser=parse_format, metavar="|".join(Format), help="Form of the verdict."
    ),
]
Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Let differences of the interface fail as well.")
]
Commit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--commit", metavar="TEXT", help="Commit that plays; asked of git when not given."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out: TypeAlias = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where traces go.")]
