"""Output on stderr: status lines, durations and progress bars. Results go to stdout."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tools.errors import one_line


def print_status(text: str) -> None:
    """Print one line about the run, not its result, to stderr."""
    print(f"goldentrace: {one_line(text)}", file=sys.stderr)


@contextmanager
def print_duration() -> Iterator[None]:
    """Print the seconds that the block took, on stderr so that results stay comparable."""
    start = time.perf_counter()
    try:
        yield
    finally:
        print_status(f"{time.perf_counter() - start:.1f} s")


@contextmanager
def progress(title: str, *, total: int, with_eta: bool = False) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal while the block runs; the yielded function takes each name done.

    ``with_eta`` shows the time that is left as well.
    """
    if not sys.stderr.isatty():
        yield lambda _name: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if with_eta else ()),
        TextColumn("[dim]{task.fields[last]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, last="")
        yield lambda name: bar.update(task, advance=1, last=name)
