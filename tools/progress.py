"""Progress on stderr, and only when somebody sits before it."""

import sys
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


@contextmanager
def progress(title: str, *, total: int, with_eta: bool = False) -> Iterator[Callable[[str], None]]:
    """Show a bar while the block runs; the yielded function takes the name of each step done.

    ``with_eta`` shows the time that is left as well: for what takes minutes and more.
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
