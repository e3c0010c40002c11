"""Builders, group and controller of the miniature stack."""

import functools
import logging
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tinystack.pools import DevicePool, Event, HostPool, Stream, move

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolEntry:
    name: str
    host_pool: HostPool
    device_pool: DevicePool
    layer_mapper: Callable[[int], int]
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Options:
    ratio: float = 2.0
    backend: str = "kernel"


class Group:
    def __init__(self, entries: list[PoolEntry]) -> None:
        self.entries = entries

    @classmethod
    def of_one(cls, entry: PoolEntry) -> "Group":
        return cls([entry])

    @staticmethod
    def describe(entry: PoolEntry) -> str:
        return entry.name


class Controller:
    def __init__(self, group: Group, *, policy: str = "through") -> None:
        self.group = group
        self.policy = policy
        self.stream = Stream("write")

    def write(self, indices: torch.Tensor, node_id: int = -1) -> torch.Tensor | None:
        pool = self.group.entries[0].host_pool
        host = pool.alloc(indices.numel())
        if host is None:
            return None
        finish = Event(name="write.finish")
        for layer in range(2):
            move(
                direction="backup",
                host_pool=pool,
                layer=layer,
                host_indices=host,
                device_indices=indices,
            )
        finish.record(self.stream)
        finish.synchronize()
        return host


class EagerController(Controller):
    def __init__(self, group: Group) -> None:
        super().__init__(group, policy="eager")

    def write(self, indices: torch.Tensor, node_id: int = -1) -> torch.Tensor | None:
        return super().write(indices, node_id)


def build_host(*, device_pool: DevicePool, width: int | None = None) -> HostPool:
    return HostPool(device_pool=device_pool, width=width)


def build_stack(
    device_pool: DevicePool,
    /,
    *names: str,
    options: Options,
    width: int | None = None,
    **extra: object,
) -> tuple[Group, Controller]:
    if options.backend == "direct":
        warnings.warn("direct is slow", stacklevel=2)
        logger.warning("switching %s", "layout")
    if options.ratio < 1:
        raise ValueError(f"ratio must be at least 1; got {options.ratio}")
    host = build_host(device_pool=device_pool, width=width)
    entry = PoolEntry("KV", host, device_pool, lambda layer: layer)
    group = Group([entry])
    return group, Controller(group)


REGISTRY = {"stack": build_stack}
half = functools.partial(build_host, width=2)


def build_slowly(entered: threading.Event, go_on: threading.Event) -> None:
    entered.set()
    go_on.wait(5)
