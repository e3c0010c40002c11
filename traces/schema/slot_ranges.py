"""Slot numbers as text: runs of consecutive ones, ``64-127,192``."""

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from traces.schema.record import Slots

if TYPE_CHECKING:
    import torch

# Recordings have up to millions of events, which mostly move the same few slots.
_REMEMBERED_SLOTS = 512
_REMEMBERED_LISTS = 1024


def slot_ranges(tensor: "torch.Tensor") -> Slots:
    """Return slot numbers in order of use."""
    # Operations on tensors may be intercepted, each of them; those on arrays are not.
    numbers = tensor.detach().reshape(-1).cpu().numpy()
    if numbers.size <= _REMEMBERED_SLOTS:
        return _remembered_ranges(numbers.tobytes(), numbers.dtype.char)
    breaks = (numbers[1:] != numbers[:-1] + 1).nonzero()[0]
    firsts = [int(numbers[0]), *numbers[breaks + 1].tolist()]
    lasts = [*numbers[breaks].tolist(), int(numbers[-1])]
    return _format_ranges(zip(firsts, lasts, strict=True))


@lru_cache(maxsize=_REMEMBERED_LISTS)
def _remembered_ranges(numbers: bytes, kind: Any) -> Slots:  # noqa: ANN401 - a character
    found = memoryview(numbers).cast(kind).tolist() if numbers else []
    return _format_ranges(_consecutive_ranges(found))


def sorted_slot_ranges(slots: Collection[int]) -> Slots:
    """Return slot numbers in order of size."""
    return _format_ranges(_consecutive_ranges(sorted(slots)))


def parse_slot_ranges(slots: Slots) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of every run of a text."""
    for run in slots.split(",") if slots else ():
        first, _, last = run.partition("-")
        yield int(first), int(last or first)


def _consecutive_ranges(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _format_ranges(runs: Iterable[tuple[int, int]]) -> Slots:
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)
