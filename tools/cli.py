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

from tools.commands.audit import audit
from tools.commands.bench import bench
from tools.commands.explore import explore_builders
from tools.commands.gate import check, diff, gate
from tools.commands.list import list_scenarios
from tools.commands.mutate import mutate
from tools.commands.parity import parity
from tools.commands.record import record, regenerate
from tools.commands.survey import backtest_catalogue, survey
from tools.console import print_status
from tools.errors import ToolError
from tools.options import SessionFactory
from tools.session import Session, open_session
from tools.sides.origin import resolve_root
from traces.errors import TraceError

DEBUG_VARIABLE = "GOLDENTRACE_DEBUG"
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

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
        root = resolve_root(arguments=given, working_directory=Path.cwd(), execute=os.execve)
        return run_command(given, open_session=_session_factory_for(root))

    return run_guarded(judged)


def run_command(arguments: Sequence[str], *, open_session: SessionFactory) -> int:
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
            obj=open_session,
        )
    except _CommandLineError as error:
        said = error.format_message().rstrip(".")
        context = getattr(error, "ctx", None)
        asked = "goldentrace" if context is None else context.command_path
        expected = f"what `{asked} --help` shows"
        raise ToolError("usage", said, expected=expected, got=" ".join(arguments)) from error
    if code == EXIT_INTERRUPTED:
        # typer turns an interrupt into an exit code of its own.
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def run_guarded(judged: Callable[[], int]) -> int:
    """Run something and return its exit code; any error becomes one line on stderr and exit 2."""
    try:
        with _sigterm_as_interrupt():
            return judged()
    except (KeyboardInterrupt, typer.Abort):
        print_status("interrupted: nothing was changed")
        return EXIT_INTERRUPTED
    except (ToolError, TraceError) as error:
        return _report_error(str(error))
    except BrokenPipeError:
        # Whoever read the result has gone; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:  # noqa: BLE001 - no traceback for a user
        return _report_error(
            f"internal error: must not happen; expected a result, got {type(error).__name__}: "
            f"{error}; {DEBUG_VARIABLE}=1 shows where"
        )


def _report_error(message: str) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    print_status(message)
    return EXIT_ERROR


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let a termination unwind the stack, so that work trees, locks and drafts are cleaned up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _session_factory_for(root: Path) -> SessionFactory:
    def opened(*, target: str, limit_seconds: float) -> Session:
        return open_session(root, target=target, limit_seconds=limit_seconds)

    return opened


if __name__ == "__main__":
    sys.exit(main())
