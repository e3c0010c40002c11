"""Times and memory of two prefix trees on the same requests, in one process.

Trees take turns with every request, so that both see the same machine.
"""

import gc
import os
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from tools.bench.tree_workloads import WORKLOADS
from traces.targets.common.fork import run_in_fork

_STEPS = 4


class MeasuredTree(Protocol):
    """A prefix tree under measurement."""

    def match(self, tokens: "array[int]") -> int:
        """Look tokens up; return how many of them are cached."""
        ...

    def insert(self, tokens: "array[int]", slots: torch.Tensor, *, cached: int) -> None:
        """Insert tokens of which ``cached`` were found before."""
        ...

    def node_num(self) -> int:
        """Return the number of nodes that have tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeTimes:
    """Figures of one tree on one workload.

    Attributes:
        match_seconds: of all matches, after each quarter of the requests.
        insert_seconds: of all insertions, likewise.
        node_num: nodes after each quarter.
        hit_tokens: tokens that were found cached, over all requests.
    """

    match_seconds: tuple[float, ...]
    insert_seconds: tuple[float, ...]
    node_num: tuple[int, ...]
    hit_tokens: int


class _Clock:
    """Times of one tree, request by request."""

    def __init__(self, tree: MeasuredTree) -> None:
        self.tree = tree
        self.match_seconds = 0.0
        self.insert_seconds = 0.0
        self.hit_tokens = 0
        self._marks: list[tuple[float, float, int]] = []

    def serve(self, tokens: "array[int]", slots: torch.Tensor) -> None:
        """Time a match and an insertion."""
        # Of this thread alone: other processes of the machine do not count.
        start = time.thread_time()
        cached = self.tree.match(tokens)
        middle = time.thread_time()
        self.tree.insert(tokens, slots, cached=cached)
        end = time.thread_time()
        self.match_seconds += middle - start
        self.insert_seconds += end - middle
        self.hit_tokens += cached

    def mark(self) -> None:
        """Keep the sums so far."""
        self._marks.append((self.match_seconds, self.insert_seconds, self.tree.node_num()))

    def times(self) -> TreeTimes:
        """Return the sums at every mark."""
        matches, insertions, nodes = zip(*self._marks, strict=True)
        return TreeTimes(
            match_seconds=matches,
            insert_seconds=insertions,
            node_num=nodes,
            hit_tokens=self.hit_tokens,
        )


def time_trees(
    trees: dict[str, MeasuredTree], *, workload: str, requests: int, seed: int
) -> dict[str, TreeTimes]:
    """Run a workload on every tree in turns; garbage is not collected meanwhile."""
    clocks = {name: _Clock(tree) for name, tree in trees.items()}
    order = list(clocks.values())
    gc.collect()
    gc.disable()
    try:
        for number, (tokens, slots) in enumerate(_requests(workload, requests, seed), start=1):
            for clock in order:
                clock.serve(tokens, slots)
            # The tree that comes second finds the tokens in the processor's cache.
            order.reverse()
            if number % (requests // _STEPS) == 0:
                for clock in clocks.values():
                    clock.mark()
    finally:
        gc.enable()
    return {name: clock.times() for name, clock in clocks.items()}


def bytes_per_node(tree: MeasuredTree, *, workload: str, requests: int, seed: int) -> float:
    """Return what a tree adds to the memory of a process, for each of its nodes.

    The tree is filled in a fork. What the requests themselves leave behind does not count: another
    fork makes them and keeps none.
    """
    grown, node_num = run_in_fork(lambda: _grown_bytes(tree, workload, requests, seed))
    left, _ = run_in_fork(lambda: _grown_bytes(None, workload, requests, seed))
    return (grown - left) / node_num


def _grown_bytes(
    tree: MeasuredTree | None, workload: str, requests: int, seed: int
) -> tuple[int, int]:
    """Return the bytes by which this process grows, and the nodes of the tree."""
    before = _resident_bytes()
    for tokens, slots in _requests(workload, requests, seed):
        if tree is not None:
            tree.insert(tokens, slots, cached=tree.match(tokens))
    gc.collect()
    return _resident_bytes() - before, 0 if tree is None else tree.node_num()


def _requests(workload: str, number: int, seed: int) -> "Iterator[tuple[array[int], torch.Tensor]]":
    """Yield tokens with as many slots; equal seeds give equal requests."""
    for tokens in WORKLOADS[workload](random.Random(seed), number):
        yield tokens, torch.arange(1, len(tokens) + 1)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
