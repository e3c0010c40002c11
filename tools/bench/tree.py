"""Our radix tree against that of a release of sglang: ratios of time and memory, and growth."""

import math
from collections.abc import Sequence
from typing import Any

from tools.bench.tree_worker import OURS, THEIRS, MeasureTrees
from tools.bench.tree_workloads import WORKLOADS
from tools.errors import ToolError
from tools.sides.environments.cache import PreparedSide
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool

_LIMIT_SECONDS = 6 * 3600.0


def bench_trees(
    side: PreparedSide, *, page_size: int, requests: int, seed: int
) -> dict[str, float | int]:
    """Return figures of both trees on every workload.

    A ratio is ours over the release's: below 1 ours is faster or smaller. Growth is the power of
    the number of requests with which our time grows, fitted over four sizes.

    Raises:
        ToolError: the release cannot be run, or the trees disagree about a prefix.
    """
    figures: dict[str, float | int] = {}
    launcher = WorkerLauncher(
        worker_class="tools.bench.tree_worker:TreeWorker",
        root=side.root,
        python=side.python,
        layers=side.layers,
        is_isolated=True,
    )
    with WorkerPool(launcher=launcher, size=1, limit_seconds=_LIMIT_SECONDS) as pool:
        for workload in WORKLOADS:
            found = pool.call(
                MeasureTrees(workload=workload, page_size=page_size, requests=requests, seed=seed)
            )
            figures |= {f"{workload}_{name}": value for name, value in tree_figures(found).items()}
    return figures


def tree_figures(found: dict[str, Any]) -> dict[str, float | int]:
    """Return the figures of one workload.

    Raises:
        ToolError: the trees have other nodes, or found other prefixes.
    """
    ours, theirs = found["times"][OURS], found["times"][THEIRS]
    for name in ("hit_tokens", "node_num"):
        if ours[name] != theirs[name]:
            rule = f"both trees must have the same {name}"
            raise ToolError("tree", rule, expected=theirs[name], got=ours[name])
    memory = found["memory"]
    sums = [sum(pair) for pair in zip(ours["match_seconds"], ours["insert_seconds"], strict=True)]
    return {
        "nodes": ours["node_num"][-1],
        "match_ratio": ours["match_seconds"][-1] / theirs["match_seconds"][-1],
        "insert_ratio": ours["insert_seconds"][-1] / theirs["insert_seconds"][-1],
        "bytes_a_node": round(memory[OURS]),
        "memory_ratio": memory[OURS] / memory[THEIRS],
        "growth": fitted_power(sums),
    }


def fitted_power(sums: Sequence[float]) -> float:
    """Return the power of growth of sums that were read at 1, 2, 3 ... parts of a whole.

    It is the slope of the least-squares line through the logarithms.
    """
    points = [(math.log(at), math.log(value)) for at, value in enumerate(sums, start=1)]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)
