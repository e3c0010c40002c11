"""Output of a verdict on stdout, with the exit code that follows from it."""

import os
import sys
from collections.abc import Callable

from tools.console import print_status
from tools.errors import ToolError
from tools.report.render import Format, render_verdict
from traces.errors import TraceError
from traces.schema.verdict import ScenarioCounts, Verdict

EXIT_CODES = {"pass": 0, "fail": 1, "error": 2}


def print_verdict(verdict: Verdict, *, form: Format, strict: bool) -> None:
    """Print a verdict in one of its forms."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    sys.stdout.write(render_verdict(verdict, form=form, coloured=coloured, strict=strict))
    sys.stdout.flush()


def report_verdict(
    judge: Callable[[], tuple[Verdict, tuple[str, ...]]], *, form: Format, target: str, strict: bool
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
        if form is not Format.TEXT:
            print_verdict(_error_verdict(str(error), target=target), form=form, strict=strict)
        raise
    for note in notes:
        print_status(f"note: {note}")
    print_verdict(verdict, form=form, strict=strict)
    # The text shows the problems already: where both streams meet they would come twice.
    if verdict.verdict == "error" and form is not Format.TEXT:
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
