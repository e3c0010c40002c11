"""Output on stderr: status lines, durations and progress bars. Results go to stdout."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from tools.errors import one_line

LINE_SECONDS = 10.0
"""Time between two lines about progress in a log."""


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
def progress(
    title: str, *, total: int, weights: Mapping[str, float] | None = None
) -> Iterator[Callable[[str], None]]:
    """Show how far the block is and how long it will take; the yielded function takes each name.

    On a terminal that is a bar, elsewhere a line every ten seconds. ``weights`` are the seconds
    that each name took before; one that is not known weighs as much as the mean of the others.
    """
    known = weights or {}
    mean = sum(known.values()) / len(known) if known else 1.0
    forecast = _Forecast(total_weight=max(total * mean, sum(known.values())), number=total)
    if not sys.stderr.isatty():

        def tell(name: str) -> None:
            forecast.advance(known.get(name, mean))
            if forecast.is_line_due():
                print_status(f"{title}: {forecast.text()}")

        yield tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[forecast]}"),
        TextColumn("[dim]{task.fields[last]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=forecast.total_weight, forecast=forecast.text(), last="")

        def show(name: str) -> None:
            weight = known.get(name, mean)
            forecast.advance(weight)
            bar.update(task, advance=weight, forecast=forecast.text(), last=name)

        yield show


class _Forecast:
    """Number of names that are done, and the time that the others will take."""

    def __init__(self, *, total_weight: float, number: int) -> None:
        self.total_weight = total_weight
        self._number = number
        self._done = 0
        self._weight = 0.0
        self._last_line = time.monotonic()
        self._first: tuple[float, float] | None = None

    def advance(self, weight: float) -> None:
        """Count one more name as done."""
        self._done += 1
        self._weight += weight
        if self._first is None:
            self._first = time.monotonic(), self._weight

    def is_line_due(self) -> bool:
        """Return whether the last line is long enough ago, and note a new one."""
        now = time.monotonic()
        is_due = now - self._last_line >= LINE_SECONDS
        if is_due:
            self._last_line = now
        return is_due

    def text(self) -> str:
        """Return ``12 of 126, about 40 s left``."""
        counted = f"{self._done} of {self._number}"
        if self._first is None or self._done in (1, self._number):
            return counted
        # Before the first one a worker has imported the target.
        start, weight = self._first
        rate = (time.monotonic() - start) / (self._weight - weight)
        left = rate * max(0.0, self.total_weight - self._weight)
        return f"{counted}, about {left:.0f} s left"
