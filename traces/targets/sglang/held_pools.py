"""The pools that a stack holds: outermost ones, and those inside of them, by path."""

import inspect
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.discovery import PACKAGE

_DEPTH_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPool:
    """A pool, or a part of one that owns buffers.

    Attributes:
        path: ``kv_cache.full_kv_pool``; see :mod:`traces.schema.pools`.
        name: last part of the path: ``full_kv_pool``; for a host pool the pool's name, ``KV``.
        outer: the pools that hold it, the nearest first.
        is_draft: whether it is a pool of a draft, or held by one.
    """

    path: str
    name: str
    pool: Any
    outer: tuple["HeldPool", ...]
    is_draft: bool = False

    def definitions(self) -> dict[str, FunctionType]:
        """Return the functions behind the methods, by path: their lines belong to records."""
        return {f"{self.path}.{name}": function for name, function in self.methods()}

    def methods(self) -> Iterator[tuple[str, FunctionType]]:
        """Yield the public methods, in order of names."""
        kind: type = type(self.pool)
        for name in _public_names(kind):
            method = inspect.getattr_static(kind, name)
            if isinstance(method, FunctionType):
                yield name, inspect.unwrap(method)


@cache
def _public_names(kind: type) -> tuple[str, ...]:
    """Return the names of the public functions of a class, sorted."""
    names = [name for name in dir(kind) if not name.startswith("_")]
    return tuple(
        name for name in names if isinstance(inspect.getattr_static(kind, name), FunctionType)
    )


def device_pools(stack: AssembledStack) -> tuple[HeldPool, ...]:
    """Return the device pools of a stack, each once, under the shortest of its paths.

    What others hold comes first: what a pool forwards to comes before the pool.
    """
    return held_by(stack.kvcache, stack.req_to_token_pool, stack.draft_pools)


def held_by(kvcache: object, requests: object, drafts: Iterable[object]) -> tuple[HeldPool, ...]:
    """Return the device pools of a rank before it has a stack; see :func:`device_pools`."""
    roots = [
        HeldPool(path=path, name=path, pool=pool, outer=())
        for path, pool in (("kv_cache", kvcache), ("requests", requests))
        if pool is not None
    ]
    for depth, pool in enumerate(drafts):
        path = f"drafts[{depth}]"
        roots.append(HeldPool(path=path, name=path, pool=pool, outer=(), is_draft=True))
    return tuple(sorted(_walk(roots), key=lambda held: -len(held.outer)))


def allocator_of(stack: AssembledStack) -> HeldPool:
    """Return the object that hands out the slots of a stack's requests."""
    return HeldPool(path="allocator", name="allocator", pool=stack.allocator, outer=())


def host_pools(stack: AssembledStack) -> tuple[HeldPool, ...]:
    """Return the host pools of a stack's group; a host pool without a group is that of KV."""
    entries = entries_of(stack.group)
    pools = {name: entry.host_pool for name, entry in entries.items()} or {"KV": stack.group}
    return tuple(
        HeldPool(path=f"host.{name}", name=name, pool=pool, outer=())
        for name, pool in pools.items()
    )


def host_group(stack: AssembledStack) -> tuple[HeldPool, ...]:
    """Return the group of a stack's host pools; none where a host pool stands alone."""
    if not entries_of(stack.group):
        return ()
    return (HeldPool(path="host", name="group", pool=stack.group, outer=()),)


def _walk(roots: Iterable[HeldPool]) -> Iterator[HeldPool]:
    pending = deque(roots)
    known = {id(held.pool) for held in pending}
    while pending:
        held = pending.popleft()
        yield held
        if len(held.outer) >= _DEPTH_MAX:
            continue
        for name, part in _parts(held.pool):
            if id(part) not in known:
                known.add(id(part))
                pending.append(
                    HeldPool(
                        path=f"{held.path}.{name}",
                        name=name,
                        pool=part,
                        outer=(held, *held.outer),
                        is_draft=held.is_draft,
                    )
                )


def _parts(pool: object) -> Iterator[tuple[str, Any]]:
    """Yield the objects of the release that a pool keeps and that own buffers."""
    for name, value in sorted(getattr(pool, "__dict__", {}).items()):
        items = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
        for number, item in items:
            if _is_of_release(item) and next(iter(buffers_of(item)), None) is not None:
                yield (name if number is None else f"{name}[{number}]"), item


def _is_of_release(value: object) -> bool:
    return not isinstance(value, type) and type(value).__module__.startswith(f"{PACKAGE}.")
