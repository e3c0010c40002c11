"""Runs of numbered bytes: pages are a few runs, and are handled in a small part of the time.

A run is a row ``(first, length)``. Bytes of unknown memory have the number -1. Runs are in the
order of the bytes they stand for, and neighbours that continue each other are one run, so equal
bytes in an equal order are equal runs.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from traces.targets.common.content import DIGEST_HEX_DIGITS

UNKNOWN = -1

Numbers: TypeAlias = npt.NDArray[np.int32]
"""Numbers of bytes. They are arrays and not tensors, whose every operation is intercepted."""
Runs: TypeAlias = npt.NDArray[np.int64]
"""Runs of bytes, ``(run_num, 2)``."""
Marks: TypeAlias = npt.NDArray[np.bool_]

# A run that is marked by itself takes as long as so many bytes of all runs together.
_BYTES_PER_RUN = 256


def as_runs(pieces: Sequence[tuple[int, int]]) -> Runs:
    """Return pieces ``(first, length)`` in their order as runs."""
    return _merged(np.array(pieces, dtype=np.int64).reshape(-1, 2))


def joined(pages: Sequence[Runs]) -> Runs:
    """Return the runs of all pages, one behind the other."""
    return _merged(np.concatenate(pages)) if pages else as_runs(())


def runs_of_pages(pages: Sequence[Numbers]) -> list[Runs]:
    """Return the runs of each page of numbers."""
    ends = np.cumsum([len(page) for page in pages])
    numbers = np.concatenate(pages) if pages else np.zeros(0, dtype=np.int32)
    if not len(numbers):
        return [as_runs(()) for _ in pages]
    begins = np.empty(len(numbers), dtype=np.bool_)
    np.not_equal(numbers[1:], numbers[:-1] + 1, out=begins[1:])
    if int(numbers.min()) < 0:
        unknown = numbers < 0
        begins[1:] |= unknown[1:] != unknown[:-1]
        begins[1:] &= ~(unknown[1:] & unknown[:-1])
    begins[0] = True
    begins[ends[:-1][ends[:-1] < len(numbers)]] = True
    starts = np.flatnonzero(begins)
    runs = np.stack((numbers[starts], np.diff(starts, append=len(numbers))), axis=1)
    return np.split(runs.astype(np.int64), np.searchsorted(starts, ends[:-1]))


def byte_num(runs: Runs) -> int:
    """Return how many bytes runs have together."""
    return int(runs[:, 1].sum())


def runs_below(size: int, runs: Runs) -> Runs:
    """Return the part of runs that has numbers of the first ``size`` bytes; others are unknown."""
    if not len(runs) or (int(runs[:, 0].min()) >= 0 and int(runs.sum(axis=1).max()) <= size):
        return runs
    kept = runs[(runs[:, 0] >= 0) & (runs[:, 0] < size)]
    return np.stack((kept[:, 0], np.minimum(kept[:, 1], size - kept[:, 0])), axis=1)


def marks_of(pages: Sequence[Runs], size: int) -> Marks:
    """Return which of the first ``size`` bytes occur; pages have no others."""
    runs = np.concatenate(pages) if pages else as_runs(())
    if _BYTES_PER_RUN * len(runs) > size:
        return _occurrences(runs, size) > 0
    marks = np.zeros(size, dtype=np.bool_)
    for first, length in runs.tolist():
        marks[first : first + length] = True
    return marks


def shared_num(pages: Sequence[Runs], size: int) -> int:
    """Return how many of the first ``size`` bytes occur more than once; pages have no others."""
    if np.count_nonzero(marks_of(pages, size)) == sum(map(byte_num, pages)):
        return 0
    return int(np.count_nonzero(_occurrences(np.concatenate(pages), size) > 1))


def surplus(marks: Marks, others: Marks) -> int:
    """Return how many bytes only the first marks have."""
    return int(np.count_nonzero(marks > others))


def digest_of(pages: Sequence[Runs]) -> str:
    """Return a digest over the bytes of pages in their order."""
    state = hashlib.sha256()
    for runs in pages:
        state.update(len(runs).to_bytes(8, "little"))
        state.update(np.ascontiguousarray(runs, dtype="<i8").data)
    return state.hexdigest()[:DIGEST_HEX_DIGITS]


def _merged(pieces: Runs) -> Runs:
    pieces = pieces[pieces[:, 1] > 0]
    firsts, lengths = pieces[:, 0], pieces[:, 1]
    unknown = firsts < 0
    begins = np.ones(len(pieces), dtype=np.bool_)
    continues = (firsts[1:] == firsts[:-1] + lengths[:-1]) & ~unknown[:-1]
    begins[1:] = ~(continues | (unknown[1:] & unknown[:-1]))
    starts = np.flatnonzero(begins)
    sums = np.add.reduceat(lengths, starts) if len(starts) else lengths
    return np.stack((firsts[starts], sums), axis=1)


def _occurrences(runs: Runs, size: int) -> npt.NDArray[np.int64]:
    """Return how often each of the first ``size`` bytes occurs."""
    firsts, ends = runs[:, 0], runs.sum(axis=1)
    change = np.bincount(firsts, minlength=size + 1) - np.bincount(ends, minlength=size + 1)
    return np.cumsum(change)[:size]
