"""Arguments and options that several commands share."""

import re
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias

import typer

from tools.errors import ToolError
from tools.report.render import Format, FormatFile, parse_format, parse_format_file
from tools.session import Session
from tools.sides.parse import Side
from tools.sides.prepare import parse_python
from tools.sides.targets import NATIVE, TARGETS, find_target
from traces.explore import POLICIES

DEFAULT_LIMIT_SECONDS = 120.0
DEVICES = ("auto", "cpu", "sim", "cuda", "cuda:N")
# `cuda:N` is one of several GPUs, `sim:POLICY:SEED` one schedule of the simulated device.
_DEVICE_PATTERN = re.compile(rf"auto|cpu|sim|cuda(:[0-9]+)?|sim:({'|'.join(POLICIES)}):[0-9]+")


class SessionFactory(Protocol):
    """A function that opens sessions, kept in the typer context."""

    def __call__(self, *, target: str, limit_seconds: float) -> Session:
        """Return a session for a target; a scenario may take ``limit_seconds``."""


def start_session(
    context: typer.Context, *, target: str, limit_seconds: float = DEFAULT_LIMIT_SECONDS
) -> Session:
    """Return a session for a target; a scenario may take ``limit_seconds``."""
    factory: SessionFactory = context.obj
    return factory(target=target, limit_seconds=limit_seconds)


def parse_device(text: str) -> str:
    """Return the device of that name.

    Raises:
        ToolError: there is no such device.
    """
    if _DEVICE_PATTERN.fullmatch(text) is None:
        expected = ", ".join((*DEVICES, "sim:POLICY:SEED"))
        raise ToolError("--device", "must be known", expected=expected, got=repr(text))
    return text


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ToolError("--timeout", "must be positive", expected="seconds", got=repr(text))
    return seconds


def require_native(target: str) -> None:
    """Refuse a package in a command that works on our own code alone.

    Raises:
        ToolError: the target is unknown or not native.
    """
    if find_target(target).name != NATIVE:
        rule = "must be our own code for this command"
        raise ToolError("--target", rule, expected=NATIVE, got=repr(target))


def parse_code_side(
    session: Session, given: str | None, *, option: str, python: str | None
) -> Side:
    """Return the side named by an option; the work tree of our own code when it was left out.

    Raises:
        ToolError: there is no such side, a package's was left out, or the interpreter is no
            program or not to be chosen.
    """
    if given is None and session.target != NATIVE:
        rule = f"must be given for target {session.target}"
        expected = find_target(session.target).sides
        raise ToolError(option, rule, expected=expected, got="none")
    if python is not None and session.target == NATIVE:
        rule, expected = "must be left out for target native", "none"
        raise ToolError("--python", rule, expected=expected, got=repr(python))
    interpreter = parse_python(python)
    return session.parse_side("worktree" if given is None else given, python=interpreter)


def kept_root(session: Session, given: str | None) -> Path | None:
    """Return the folder of a side's source if it is still there after the run; None otherwise."""
    try:
        side = session.parse_side("worktree" if given is None else given)
    except ToolError:
        return None
    return session.root if side.kind == "worktree" else side.place if side.kind == "dir" else None


def parse_baseline(session: Session, given: str) -> str:
    """Return the release that ``--baseline pypi:VERSION`` names.

    Raises:
        ToolError: it names none.
    """
    side = session.parse_side(given, python=None)
    if side.kind != "pypi":
        rule = "must name the release that a tree derives from"
        raise ToolError("--baseline", rule, expected="pypi:VERSION", got=repr(given))
    return side.release


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
OutputFilesOption: TypeAlias = Annotated[
    list[FormatFile] | None,
    typer.Option(
        "--output",
        parser=parse_format_file,
        metavar="FORMAT=FILE",
        help="Write the verdict to a file as well, in this form; may be repeated.",
    ),
]
QuietOption: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the text as one line.")
]
StrictOption: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Let differences of the interface fail as well.")
]
AllOption: TypeAlias = Annotated[
    bool, typer.Option("--all", help="Run also the scenarios that the change cannot reach.")
]
FreshOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--fresh", help="Use no kept run: run every scenario of both sides under two hash seeds."
    ),
]
CommitOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--commit",
        metavar="TEXT",
        help="Commit of the code that runs; read from git when not given.",
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
        "--python", metavar="PATH", help="Interpreter of dir: and git: sides, used as it is."
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutOption: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where traces go.")
]
