"""The ``goldentrace`` command.

Exit codes: 0 nothing differs, 1 differences or findings, 2 could not judge. Nothing here imports
torch or ``assembler``: worker processes do.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import cast

import typer

from tools.desk import Desk, open_desk
from tools.errors import ToolError
from tools.options import OpenDesk
from tools.origin import root_to_judge
from tools.output import say
from tools.verbs.auditing import audit
from tools.verbs.exploring import explore_builders
from tools.verbs.judging import check, diff, gate
from tools.verbs.listing import list_scenarios
from tools.verbs.measuring import bench
from tools.verbs.mutating import mutate
from tools.verbs.proving import parity
from tools.verbs.surveying import backtest_catalogue, survey
from tools.verbs.writing import record, regenerate
from traces.errors import TraceError

DEBUG = "GOLDENTRACE_DEBUG"
COULD_NOT_JUDGE = 2
INTERRUPTED = 130

# typer carries its own copy of click or uses the installed one, by version; its public exceptions
# are subclasses of the right one in either case.
_CommandLineError = cast(
    "type[typer.BadParameter]",
    next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"),
)

app = typer.Typer(
    name="goldentrace",
    help="Golden traces of hybrid KV-cache stack builders, and the gate that compares them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(list_scenarios)
app.command()(record)
app.command()(check)
app.command()(gate)
app.command()(diff)
app.command()(regenerate)
app.command()(audit)
app.command()(parity)
app.command("explore")(explore_builders)
app.command()(mutate)
app.command()(survey)
app.command("backtest")(backtest_catalogue)
app.add_typer(bench)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the program's name; those of the process when None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)

    def judged() -> int:
        root = root_to_judge(arguments=given, standing_in=Path.cwd(), execute=os.execve)
        return run(given, open_desk=_desks(root))

    return guarded(judged)


def run(arguments: Sequence[str], *, open_desk: OpenDesk) -> int:
    """Run one verb and return the exit code.

    Raises:
        ToolError: the command line makes no sense, or the verb refuses.
        TraceError: a trace is none.
    """
    try:
        code = app(
            args=list(arguments),
            prog_name="goldentrace",
            standalone_mode=False,
            obj=open_desk,
        )
    except _CommandLineError as error:
        said = error.format_message().rstrip(".")
        context = getattr(error, "ctx", None)
        asked = "goldentrace" if context is None else context.command_path
        expected = f"what `{asked} --help` shows"
        raise ToolError("usage", said, expected=expected, got=" ".join(arguments)) from error
    if code == INTERRUPTED:
        # typer turns an interrupt into an exit code of its own.
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def guarded(judged: Callable[[], int]) -> int:
    """Run something and return its exit code; any error becomes one line on stderr and exit 2."""
    try:
        with _terminated_like_interrupted():
            return judged()
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted: nothing was changed")
        return INTERRUPTED
    except (ToolError, TraceError) as error:
        return _failed(str(error))
    except BrokenPipeError:
        # Whoever read the result has gone; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_JUDGE
    except Exception as error:  # noqa: BLE001 - no traceback for a user
        return _failed(
            f"internal error: must not happen; expected a result, got {type(error).__name__}: "
            f"{error}; {DEBUG}=1 shows where"
        )


def _failed(message: str) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exc()
    say(message)
    return COULD_NOT_JUDGE


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let a termination unwind the stack, so that work trees, locks and drafts are cleaned up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _desks(root: Path) -> OpenDesk:
    def opened(*, target: str, limit_seconds: float) -> Desk:
        return open_desk(root, target=target, limit_seconds=limit_seconds)

    return opened


if __name__ == "__main__":
    sys.exit(main())
