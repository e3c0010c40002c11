"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, Protocol, TypeAlias

import typer

from tools.errors import ToolError
from tools.report.render import Format, parse_format
from tools.session import DEVICES, Session
from tools.sides.prepare import parse_python
from tools.sides.targets import NATIVE, TARGETS, find_target

DEFAULT_LIMIT_SECONDS = 120.0


class SessionFactory(Protocol):
    """Gives a verb its desk; rides on the typer context."""

    def __call__(self, *, target: str, limit_seconds: float) -> Session:
        """Return a desk for a target; a scenario may take ``limit_seconds``."""


def session_factory(context: typer.Context) -> SessionFactory:
    """Return the function that opens desks."""
    found: SessionFactory = context.obj
    return found


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ToolError("--timeout", "must be positive", expected="seconds", got=repr(text))
    return seconds


def require_native(target: str) -> None:
    """Refuse a package where only our own code can be worked on.

    Raises:
        ToolError: the target is unknown or not native.
    """
    if find_target(target).name != NATIVE:
        rule = "must be our own code for this verb"
        raise ToolError("--target", rule, expected=NATIVE, got=repr(target))


def side_or_default(default: str, given: str | None, *, option: str, target: str) -> str:
    """Return the side given, or the default of this repository's own code.

    Raises:
        ToolError: a package's side was not given: it has no default.
    """
    if given is not None:
        return given
    known = find_target(target)
    if known.name != NATIVE:
        rule = f"must be given for target {target}"
        raise ToolError(option, rule, expected=known.sides, got="none")
    return default


def parse_interpreter(given: str | None, *, target: str) -> Path | None:
    """Return the interpreter given, for a target whose sides may have one of their own.

    Raises:
        ToolError: it is no program, or the target plays in ours.
    """
    if given is not None and find_target(target).name == NATIVE:
        rule, expected = "must be left out for target native", "none"
        raise ToolError("--python", rule, expected=expected, got=repr(given))
    return parse_python(given)


ScenarioNames: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCENARIO", help="Scenarios; all of them when none is named."),
]
TargetOption: TypeAlias = Annotated[
    str, typer.Option("--target", metavar="|".join(TARGETS), help="Code under guard.")
]
DeviceOption: TypeAlias = Annotated[
    str, typer.Option("--device", metavar="|".join(DEVICES), help="Where the stacks are built.")
]
TimeoutOption: TypeAlias = Annotated[
    float,
    typer.Option(
        "--timeout", parser=_parse_seconds, metavar="SECONDS", help="Time one scenario may take."
    ),
]
FormatOption: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--format", parser=parse_format, metavar="|".join(Format), help="Form of the verdict."
    ),
]
StrictOption: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Let differences of the interface fail as well.")
]
CommitOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--commit", metavar="TEXT", help="Commit that plays; asked of git when not given."
    ),
]
SideOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE",
        help="golden, worktree or a revision; of sglang: pypi:VERSION, dir:PATH or git:PATH@REV.",
    ),
]
PythonOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--python", metavar="PATH", help="Interpreter that plays dir: and git: sides, as it is."
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutOption: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where traces go.")
]
