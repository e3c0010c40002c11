"""Slot numbers as text: runs of consecutive ones, ``64-127,192``."""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from traces.schema.record import Slots

if TYPE_CHECKING:
    import torch

# From so many slots on an array is faster than a loop.
_MIN_ARRAY_SLOTS = 64


def slot_ranges(tensor: "torch.Tensor") -> Slots:
    """Return slot numbers in order of use."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() < _MIN_ARRAY_SLOTS:
        return _format_ranges(_consecutive_ranges(flat.tolist()))
    # Operations on tensors may be intercepted, each of them.
    numbers = flat.cpu().numpy()
    breaks = (numbers[1:] != numbers[:-1] + 1).nonzero()[0]
    firsts = [int(numbers[0]), *numbers[breaks + 1].tolist()]
    lasts = [*numbers[breaks].tolist(), int(numbers[-1])]
    return _format_ranges(zip(firsts, lasts, strict=True))


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
