"""Agreement among the ranks that keep the same cache."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Self

import torch
from torch import distributed

from assembler.errors import CollectiveError
from assembler.groups import LocalGroup, ProcessGroup

TIMEOUT = timedelta(seconds=60)
"""Time that a rank waits for the others of its group."""
_POLL_SECONDS = 0.0001


class CollectiveRole(StrEnum):
    """The question that ranks agree on."""

    WRITE_ACKS = "write_acks"
    LOAD_ACKS = "load_acks"
    HIT_PAGES = "hit_pages"
    PREFETCH_HITS = "prefetch_hits"
    PREFETCH_END = "prefetch_end"
    PREFETCH_PAGES = "prefetch_pages"
    BACKUP_ENDS = "backup_ends"

    @property
    def is_polled(self) -> bool:
        """True for what is asked until the answer is not 0: how often depends on time."""
        return self in (CollectiveRole.PREFETCH_END, CollectiveRole.BACKUP_ENDS)

    @property
    def counts_copies(self) -> bool:
        """True for numbers of finished copies: how they are spread over polls depends on time."""
        return self in (CollectiveRole.WRITE_ACKS, CollectiveRole.LOAD_ACKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedGroup:
    """A process group and the name that its ranks share, such as ``tp``, ``attn_cp`` or ``pp``."""

    name: str
    group: ProcessGroup

    def clone(self, purpose: str) -> "NamedGroup":
        """Return a group of the same ranks for one thread, whose collectives may overlap others.

        Every rank of the group must call this, in the same order.
        """
        group = self.group
        if not isinstance(group, distributed.ProcessGroup):
            return self
        own = distributed.new_group(
            distributed.get_process_group_ranks(group),
            backend="gloo",
            timeout=TIMEOUT,
            use_local_synchronization=True,
            group_desc=f"{group.group_desc}.{purpose}",
        )
        return NamedGroup(name=self.name, group=own)


def ranks_of(group: ProcessGroup) -> tuple[int, ...]:
    """Return the global ranks of a group's members, in group order."""
    if isinstance(group, distributed.ProcessGroup):
        return tuple(distributed.get_process_group_ranks(group))
    return group.ranks if isinstance(group, LocalGroup) else tuple(range(group.size()))


def tag_of(group: ProcessGroup) -> str:
    """Return the name that a group was made with; the class of one that has none."""
    if isinstance(group, distributed.ProcessGroup):
        return str(group.group_desc)
    return group.tag if isinstance(group, LocalGroup) else type(group).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRanks:
    """The groups over which ranks must agree, one after the other.

    Groups of one rank are left out, and so is a group whose ranks another one has.

    Source: sglang 0.5.12 ``cache_controller.py:355-389``.
    """

    groups: tuple[NamedGroup, ...]
    _clones: dict[str, "CacheRanks"] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        *,
        tp_group: ProcessGroup | None,
        attn_cp_group: ProcessGroup | None,
        attn_tp_group: ProcessGroup | None,
        pp_group: ProcessGroup | None,
    ) -> Self:
        """Return the attention groups, or the tensor-parallel one without them, then the stages'.

        The stages of a pipeline keep the same prefixes: a page that one of them lacks is no hit.
        Source of the last group: sglang 0.5.13 ``cache_controller.py``.
        """
        named = {"attn_cp": attn_cp_group, "attn_tp": attn_tp_group}
        if attn_cp_group is None and attn_tp_group is None:
            named = {"tp": tp_group}
        named["pp"] = pp_group
        distinct: dict[tuple[int, ...], NamedGroup] = {}
        for name, group in named.items():
            if group is not None and group.size() > 1:
                distinct.setdefault(ranks_of(group), NamedGroup(name=name, group=group))
        return cls(groups=tuple(distinct.values()))

    def clone(self, purpose: str) -> "CacheRanks":
        """Return groups of the same ranks for one thread, see :meth:`NamedGroup.clone`.

        The same ones for the same purpose. They live as long as torch's default group: torch gives
        a group that is made anew the name of one that was destroyed, and its ranks then look for
        each other at addresses that are gone.
        """
        if purpose not in self._clones:
            groups = tuple(group.clone(purpose) for group in self.groups)
            self._clones[purpose] = CacheRanks(groups=groups)
        return self._clones[purpose]

    def minimum(self, values: Sequence[int], *, role: CollectiveRole) -> list[int]:
        """Return the least of every value over all ranks.

        Raises:
            CollectiveError: a rank failed or did not answer within :data:`TIMEOUT`.
        """
        agreed = list(values)
        for group in self.groups:
            agreed = reduce_minimum(group, agreed, role=role)
        return agreed


def reduce_minimum(group: NamedGroup, values: Sequence[int], *, role: CollectiveRole) -> list[int]:
    """Return the least of every value over the ranks of one group.

    A :class:`~assembler.groups.LocalGroup` has no other process: its other ranks are taken to have
    the same values.

    Raises:
        CollectiveError: a rank failed or did not answer within :data:`TIMEOUT`.
    """
    members = group.group
    if not isinstance(members, distributed.ProcessGroup):
        return list(values)
    try:
        return _reduced(members, values)
    except (RuntimeError, TimeoutError) as error:
        rule = f"every rank must take part in {role}"
        expected = f"ranks {', '.join(map(str, ranks_of(members)))}"
        raise CollectiveError(
            f"group {group.name}", rule, expected=expected, got=str(error).splitlines()[0]
        ) from error


def _reduced(members: distributed.ProcessGroup, values: Sequence[int]) -> list[int]:
    """Return the least of every value; raise RuntimeError or TimeoutError where a rank failed."""
    device = _device_of(members)
    is_on_host = device.type == "cpu"
    options = distributed.AllreduceOptions()
    options.reduceOp = distributed.ReduceOp(distributed.ReduceOp.MIN)
    # NCCL ends the process at its time-out: the error below comes first, so that it can be told.
    options.timeout = TIMEOUT if is_on_host else 2 * TIMEOUT
    # On a stream of its own the reduction does not wait for the forward pass.
    with nullcontext() if is_on_host else torch.Stream(device=device):
        reduced = torch.tensor(values, dtype=torch.int64, device=device)
        work = members.allreduce([reduced], options)
        if not is_on_host:
            _wait_until_done(work)
        work.wait()
        return [int(value) for value in reduced.tolist()]


def _device_of(group: distributed.ProcessGroup) -> torch.device:
    """Return where a group reduces: on the host, or on this rank's device where it only can there.

    NCCL only can there; gloo can on the host.
    """
    backends = distributed.get_backend_config(group).split(",")
    types = [backend.partition(":")[0] for backend in backends]
    if "cpu" in types:
        return torch.device("cpu")
    return torch.device(types[0], torch.accelerator.current_device_index())


def _wait_until_done(work: distributed.Work) -> None:
    """Wait on the host for work of a device, the ``wait`` of which only orders streams.

    Raises:
        TimeoutError: it is not done after :data:`TIMEOUT`.
    """
    until = time.monotonic() + TIMEOUT.total_seconds()
    while not work.is_completed():
        if time.monotonic() > until:
            raise TimeoutError(f"no answer in {TIMEOUT.total_seconds():g} seconds")
        time.sleep(_POLL_SECONDS)
