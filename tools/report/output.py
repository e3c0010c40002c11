"""Output of a verdict on stdout, with the exit code that follows from it."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.console import print_status
from tools.errors import ToolError, require_writable_path
from tools.report.render import Format, FormatFile, render_verdict
from tools.report.repository import with_repository_paths
from tools.report.text import render_line
from traces.errors import TraceError
from traces.schema.transaction import Transaction
from traces.schema.verdict import ScenarioCounts, Verdict
from traces.text.cause_block import DEFAULT_COLUMNS, PLAIN, TextLayout

EXIT_CODES = {"pass": 0, "fail": 1, "error": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The forms in which a verdict leaves a command.

    Attributes:
        form: on stdout.
        strict: differences of the interface fail.
        quiet: the text on stdout is one line.
        files: further forms, and where they are written.
        root: folder to which places of causes are relative, for links on a terminal and for
            services that show a repository; None where it is not kept.
    """

    form: Format
    strict: bool
    quiet: bool = False
    files: tuple[FormatFile, ...] = ()
    root: Path | None = None


def terminal_layout(root: Path | None) -> TextLayout:
    """Return the layout of a text for stdout: its width, and colours and links on a terminal."""
    return TextLayout(
        coloured=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        columns=shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns,
        root=root,
    )


def print_verdict(verdict: Verdict, output: Output) -> None:
    """Print a verdict on stdout, and write it to the files of the output.

    Raises:
        ToolError: a file cannot be written; then none is.
    """
    _write_files(verdict, output)
    if output.quiet and output.form is Format.TEXT:
        text = render_line(verdict)
    else:
        layout = terminal_layout(output.root)
        text = _render(verdict, output.form, output, layout=layout)
    sys.stdout.write(text)
    sys.stdout.flush()


def _render(verdict: Verdict, form: Format, output: Output, *, layout: TextLayout = PLAIN) -> str:
    if form in (Format.GITHUB, Format.SARIF):
        verdict = with_repository_paths(verdict, root=output.root)
    return render_verdict(verdict, form=form, strict=output.strict, layout=layout)


def _write_files(verdict: Verdict, output: Output) -> None:
    with Transaction() as transaction:
        for file in output.files:
            text = _render(verdict, file.form, output)
            with require_writable_path(file.path, expected="a file in an existing folder"):
                transaction.write(file.path, text.encode())
        transaction.commit()


def report_verdict(
    judge: Callable[[], tuple[Verdict, tuple[str, ...]]], *, output: Output, target: str
) -> int:
    """Print the verdict that ``judge`` returns and its notes; return the exit code.

    When nothing can be judged, forms for machines still get a verdict.

    Raises:
        ToolError: nothing could be judged; the caller prints it on stderr.
        TraceError: as above.
    """
    try:
        verdict, notes = judge()
    except (ToolError, TraceError) as error:
        failed = _error_verdict(str(error), target=target)
        if output.form is not Format.TEXT:
            print_verdict(failed, output)
        else:
            _write_files(failed, output)
        raise
    for note in notes:
        print_status(f"note: {note}")
    print_verdict(verdict, output)
    # The text shows the problems already: where both streams meet they would come twice.
    if verdict.verdict == "error" and output.form is not Format.TEXT:
        for problem in verdict.problems:
            print_status(problem)
    return EXIT_CODES[verdict.verdict]


def _error_verdict(problem: str, *, target: str) -> Verdict:
    return Verdict(
        verdict="error",
        target=target,
        base={},
        head={},
        scenarios=ScenarioCounts(played=0, unchanged=0, changed=0, names_changed=()),
        causes=(),
        problems=(problem,),
    )
