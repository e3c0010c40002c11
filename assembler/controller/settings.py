"""Settings of a cache controller: one record of them, and the two that arrive as text."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from assembler.errors import AssemblyError, TransferError
from assembler.groups import ProcessGroup
from assembler.names import IoBackend, WritePolicy
from assembler.params import CacheInitParams, ServerArgs


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """Everything a stack's controller is built from, except its pools and their layers.

    ``params`` holds the allocator, ``server_args`` the write policy and the io backend; the other
    fields are parameters of :class:`~assembler.controller.hybrid.HybridCacheController` of the
    same name.
    """

    params: CacheInitParams
    server_args: ServerArgs
    page_size: int
    tp_group: ProcessGroup | None
    load_cache_event: threading.Event | None
    attn_cp_group: ProcessGroup | None
    attn_tp_group: ProcessGroup | None
    pp_group: ProcessGroup | None
    storage_backend: str | None
    prefetch_threshold: int
    model_name: str | None
    storage_backend_extra_config: Mapping[str, object] | None
    pp_rank: int
    pp_size: int
    enable_storage_metrics: bool


def stage_of(pp_group: ProcessGroup | None, *, pp_rank: int, pp_size: int) -> tuple[int, int]:
    """Return pipeline stage and number of stages: those of the group, where there is one.

    Raises:
        AssemblyError: numbers other than the defaults, 0 of 1, contradict the group.
    """
    if pp_group is None:
        return pp_rank, pp_size
    stage = pp_group.rank(), pp_group.size()
    if (pp_rank, pp_size) not in ((0, 1), stage):
        rule, got = "must be the group of the pipeline stage", f"{stage[0]} of {stage[1]}"
        raise AssemblyError("pp_group", rule, expected=f"stage {pp_rank} of {pp_size}", got=got)
    return stage


def parse_write_policy(value: str) -> WritePolicy:
    """Return the policy of a name, or raise AssemblyError."""
    if value not in set(WritePolicy):
        known = " or ".join(WritePolicy)
        raise AssemblyError("write policy", "must be known", expected=known, got=repr(value))
    return WritePolicy(value)


def parse_io_backend(value: str) -> IoBackend:
    """Return the io backend of a name, or raise TransferError."""
    if value not in set(IoBackend):
        known = " or ".join(IoBackend)
        raise TransferError("io backend", "must be known", expected=known, got=repr(value))
    return IoBackend(value)
