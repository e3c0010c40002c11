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
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, cast

import typer

from tools.commands.audit import audit
from tools.commands.backtest import backtest_catalogue
from tools.commands.bench import bench
from tools.commands.cache import cache
from tools.commands.check import check
from tools.commands.diff import diff
from tools.commands.explain import explain
from tools.commands.explore import explore_builders
from tools.commands.gate import gate
from tools.commands.list import list_scenarios
from tools.commands.mutate import mutate
from tools.commands.parity import parity
from tools.commands.perfetto import perfetto
from tools.commands.record import record
from tools.commands.regenerate import regenerate
from tools.commands.report import report
from tools.commands.review import review
from tools.commands.survey import survey
from tools.console import print_status
from tools.errors import EXIT_INTERRUPTED, ToolError
from tools.options import SessionFactory
from tools.session import open_session
from tools.sides.origin import project_version, resolve_root
from traces.errors import TraceError

DEBUG_VARIABLE = "GOLDENTRACE_DEBUG"
EXIT_ERROR = 2

# typer carries its own copy of click or uses the installed one, by version; its public exceptions
# are subclasses of the right one in either case.
_CommandLineError = cast(
    "type[typer.BadParameter]",
    next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"),
)

app = typer.Typer(
    name="goldentrace",
    help="Golden traces of hybrid KV-cache stack builders, and the gate that compares them.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(list_scenarios)
app.command()(record)
app.command()(check)
app.command()(gate)
app.command()(diff)
app.command()(regenerate)
app.command()(review)
app.command()(report)
app.command()(perfetto)
app.command()(audit)
app.command()(explain)
app.command()(parity)
app.command("explore")(explore_builders)
app.command()(mutate)
app.command()(survey)
app.command("backtest")(backtest_catalogue)
app.add_typer(bench)
app.add_typer(cache)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if asked:
        print(f"goldentrace {project_version()}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the program's name; those of the process when None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        root = resolve_root(arguments=given, working_directory=Path.cwd(), execute=os.execve)
        return run_command(given, open_session=partial(open_session, root))

    return run_guarded(run)


def run_command(arguments: Sequence[str], *, open_session: SessionFactory) -> int:
    """Run one command and return the exit code.

    Raises:
        ToolError: the command line is wrong, or the command refuses.
        TraceError: a file is no trace.
    """
    try:
        code = app(
            args=list(arguments), prog_name="goldentrace", standalone_mode=False, obj=open_session
        )
    except _CommandLineError as error:
        rule = error.format_message().rstrip(".")
        context = getattr(error, "ctx", None)
        command = "goldentrace" if context is None else context.command_path
        expected = f"what `{command} --help` shows"
        raise ToolError("usage", rule, expected=expected, got=" ".join(arguments)) from error
    if code == EXIT_INTERRUPTED:
        # typer turns an interrupt into an exit code of its own.
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def run_guarded(run: Callable[[], int]) -> int:
    """Run something and return its exit code; any error becomes one line on stderr and exit 2."""
    try:
        with _sigterm_as_interrupt():
            return run()
    except (KeyboardInterrupt, typer.Abort):
        print_status("interrupted: nothing was changed")
        return EXIT_INTERRUPTED
    except (ToolError, TraceError) as error:
        return _report_error(str(error))
    except BrokenPipeError:
        # The reader of stdout is gone; without this Python would report that again when it flushes.
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
    """Turn SIGTERM into an interrupt, so that work trees, locks and temporary files are removed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
