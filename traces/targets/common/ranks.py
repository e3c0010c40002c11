"""Runs of a function on several ranks: one process each in one world, with a time-out."""

import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import distributed

from traces.targets.common.errors import ForkError

_Found = TypeVar("_Found")

RankBackend: TypeAlias = Literal["gloo", "nccl"]
"""The library through which ranks reach each other."""


def run_on_ranks(
    world_size: int, work: Callable[[int], _Found], *, backend: RankBackend, seconds: float
) -> list[_Found]:
    """Return what ``work(rank)`` returns on every rank, by rank.

    The default process group of each process is the world. The time counts for all of them
    together. Ranks of gloo are forks of this process. Those of NCCL have a GPU each, and ``work``
    is pickled: they are new processes, since CUDA does not work in a fork of one that has used it.

    Raises:
        ForkError: a rank raised, died or did not end in time; it is named, and all are killed.
    """
    context: Any = multiprocessing.get_context("fork" if backend == "gloo" else "spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory(prefix="goldentrace-") as folder:
        processes = [
            context.Process(
                target=_run_rank,
                args=(work, rank, world_size, backend, Path(folder) / "store", answers),
                daemon=True,
            )
            for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        try:
            found = _collect(answers, processes, until=time.monotonic() + seconds)
        finally:
            for process in processes:
                process.kill()
                process.join()
    return [found[rank] for rank in range(world_size)]


def _run_rank(
    work: Callable[[int], object],
    rank: int,
    world_size: int,
    backend: RankBackend,
    store: Path,
    answers: Any,  # noqa: ANN401 - a queue of the context
) -> None:
    # The threads of the pool that operations of the parent have used do not exist in a fork.
    torch.set_num_threads(1)
    try:
        if backend == "nccl":
            torch.cuda.set_device(rank)
        distributed.init_process_group(
            backend,
            init_method=f"file://{store}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=60),
        )
        answers.put((rank, True, work(rank)))
    except BaseException as error:  # noqa: BLE001 - raised in the other process
        answers.put((rank, False, f"{type(error).__name__}: {error}"))
    # One that ends while another still connects would cut its connection: the parent ends all.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()


def _collect(answers: Any, processes: list[BaseProcess], *, until: float) -> dict[int, Any]:  # noqa: ANN401 - a queue
    found: dict[int, Any] = {}
    while len(found) < len(processes):
        try:
            rank, is_result, value = answers.get(timeout=1)
        except queue.Empty:
            missing = [rank for rank in range(len(processes)) if rank not in found]
            dead = [rank for rank in missing if processes[rank].exitcode not in (None, 0)]
            if dead or time.monotonic() > until:
                got = f"none of {', '.join(map(str, dead or missing))}"
                rule = "every rank must answer; expected a result of each"
                raise ForkError(f"ranks: {rule}, got {got}") from None
            continue
        if not is_result:
            raise ForkError(f"rank {rank}: must answer; expected a result, got {value}")
        found[rank] = value
    return found
