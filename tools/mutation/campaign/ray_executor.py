"""Who carries the orders of a campaign out: a Ray cluster, which shards and retries by itself.

Each Ray worker keeps one warm process of ours, which makes the copies: what Ray itself runs in its
workers must never be forked.
"""

import atexit
import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutationTask
from tools.mutation.campaign.worker_process import MutationWorkerProcess
from tools.workers.launch import WorkerLauncher

TRIES_MAX = 3
_TASKS_PER_CORE = 4
"""Orders in flight for each core: enough to keep it busy, few enough to lose little."""

_warm_workers: dict[str, MutationWorkerProcess] = {}


class RayExecutor:
    """Carries orders out on a cluster.

    Args:
        ray: the module.
        launcher: starts a warm process on any machine that has the checkout at the same place.
        limit_seconds: time one order may take.
    """

    def __init__(self, ray: Any, launcher: WorkerLauncher, *, limit_seconds: float) -> None:  # noqa: ANN401
        self._ray = ray
        self._launcher = launcher
        self._limit_seconds = limit_seconds
        self._baseline: Any = None
        self._remote = ray.remote(num_cpus=1, max_retries=TRIES_MAX, retry_exceptions=False)(
            run_task
        )

    def load(self, baseline: Path) -> None:
        """Put a baseline into the cluster's store, for every worker."""
        self._baseline = self._ray.put(baseline.read_bytes())

    def results(self, tasks: Sequence[MutationTask]) -> Iterator[tuple[int, Any]]:
        """Yield the number of an order and its result, as they come.

        Raises:
            ToolError: an order was lost too often, or cannot be carried out.
        """
        waiting = iter(enumerate(tasks))
        flying: dict[Any, int] = {}
        room = max(1, int(self._ray.cluster_resources().get("CPU", 1))) * _TASKS_PER_CORE
        while True:
            for number, order in waiting:
                flying[self._submitted(order)] = number
                if len(flying) >= room:
                    break
            if not flying:
                return
            [ready], _ = self._ray.wait(list(flying), num_returns=1)
            yield flying.pop(ready), self._result(ready)

    def _submitted(self, task: MutationTask) -> Any:  # noqa: ANN401
        return self._remote.remote(
            self._launcher, self._baseline, pickle.dumps(task), self._limit_seconds
        )

    def _result(self, reference: Any) -> Any:  # noqa: ANN401
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            rule = f"must be carried out within {TRIES_MAX + 1} tries"
            raise ToolError("order", rule, expected="a result", got=error) from error


def run_task(
    launcher: WorkerLauncher, baseline: bytes | None, task: bytes, limit_seconds: float
) -> Any:  # noqa: ANN401
    """Give an order to this Ray worker's warm process and return the result."""
    key = "" if baseline is None else sha256(baseline).hexdigest()
    if key not in _warm_workers:
        for worker in _warm_workers.values():
            worker.end()
        _warm_workers.clear()
        _warm_workers[key] = MutationWorkerProcess(
            launcher=launcher, baseline=_write_baseline_file(baseline), limit_seconds=limit_seconds
        )
        atexit.register(_warm_workers[key].end)
    return _warm_workers[key].run(pickle.loads(task))


def _write_baseline_file(baseline: bytes | None) -> Path | None:
    if baseline is None:
        return None
    descriptor, name = tempfile.mkstemp(prefix="goldentrace-baseline-")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(baseline)
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


@contextmanager
def open_ray_executor(
    launcher: WorkerLauncher, *, address: str, size: int | None, limit_seconds: float
) -> Iterator[RayExecutor]:
    """Yield a cluster; ``local`` starts one on this machine, anything else is its address.

    Raises:
        ToolError: Ray is not installed, or there is no cluster.
    """
    try:
        ray = import_module("ray")
    except ImportError as error:
        expected = "pip install 'goldentrace[ray]'"
        raise ToolError("--ray", "needs Ray", expected=expected, got=error) from error
    try:
        if address == "local":
            ray.init(num_cpus=size, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ToolError("--ray", "must be a cluster", expected="its address", got=error) from error
    try:
        yield RayExecutor(ray, launcher, limit_seconds=limit_seconds)
    finally:
        ray.shutdown()
