"""A task executor on a Ray cluster, which distributes tasks and retries lost ones by itself.

Each Ray worker keeps one worker pool with a single warm process. That process makes the forks:
a Ray worker has threads and must never be forked.
"""

import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tools.errors import ToolError
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool
from tools.workers.protocol import Result, Task, TaskFailed, TaskReply

_TASKS_PER_CORE = 4
"""Tasks in flight for each core: enough to keep it busy, few enough to lose little."""
_RETRIES = 3

_warm_pools: dict[int, WorkerPool] = {}


class RayExecutor:
    """Runs tasks on a cluster.

    Args:
        ray: the module.
        launcher: starts a warm process on any machine that has the checkout at the same path.
        limit_seconds: time one task may take.
    """

    def __init__(self, ray: Any, launcher: WorkerLauncher, *, limit_seconds: float) -> None:  # noqa: ANN401
        self._ray = ray
        self._arguments = (launcher, limit_seconds)
        self._setup: tuple[int, Any] = (0, None)
        self._remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(run_in_warm_pool)

    def broadcast(self, task: Task[Any]) -> None:
        """Run a task in every warm process before its next other task, in place of earlier ones."""
        self._setup = (self._setup[0] + 1, self._ray.put(pickle.dumps(task)))

    def results(self, tasks: Iterable[Task[Result]], *, tries: int) -> Iterator[TaskReply[Result]]:
        """Yield the reply to each task, in the order of completion."""
        waiting = iter(enumerate(tasks))
        flying: dict[Any, tuple[int, Task[Result]]] = {}
        room = max(1, int(self._ray.cluster_resources().get("CPU", 1))) * _TASKS_PER_CORE
        while True:
            for number, task in waiting:
                arguments = (*self._arguments, *self._setup, pickle.dumps(task), tries)
                flying[self._remote.remote(*arguments)] = number, task
                if len(flying) >= room:
                    break
            if not flying:
                return
            [ready], _ = self._ray.wait(list(flying), num_returns=1)
            number, task = flying.pop(ready)
            yield TaskReply(number=number, task=task, seed=0, result=self._result(ready))

    def _result(self, reference: Any) -> Any:  # noqa: ANN401
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return TaskFailed(reason=str(error), is_lost=True)


def run_in_warm_pool(
    launcher: WorkerLauncher,
    limit_seconds: float,
    setup_number: int,
    setup: bytes | None,
    task: bytes,
    tries: int,
) -> object:
    """Run a task in the warm process of this Ray worker and return its result."""
    if setup_number not in _warm_pools:
        pool = WorkerPool(launcher=launcher, size=1, limit_seconds=limit_seconds)
        if _warm_pools:
            _, pool = _warm_pools.popitem()
        if setup is not None:
            pool.broadcast(pickle.loads(setup))
        _warm_pools[setup_number] = pool
    [reply] = _warm_pools[setup_number].results([pickle.loads(task)], tries=tries)
    return reply.result


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
