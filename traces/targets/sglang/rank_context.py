"""Process groups, server arguments and parallel state that a release expects around its caches.

One process is one rank. The groups are real ``ProcessGroup`` objects of torch's fake backend,
whose collectives change nothing, so that ranks and sizes are distinctive without peers.
"""

import importlib
import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from traces.recording.frame_hooks import unprofiled
from traces.recording.torch_collectives import pending_operations
from traces.targets.common.scenario import RankShape
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.scenarios import GROUPS, HOST_TIER, SglangScenario
from traces.targets.sglang.signature_caller import accepted_parameters
from traces.targets.sglang.storage import LOADER, NO_COPY
from traces.targets.sglang.storage.hashing import load_token_hash
from traces.targets.sglang.storage.threads import watched_queues

# Kept: it is replaced while settings are published.
_read_fields = msgspec.structs.fields

# Sentinels: no default of a release has these values.
MODEL_NAME = "sentinel/model-7b"
PREFETCH_THRESHOLD = 771
EXTRA_CONFIG: dict[str, Any] = {"sentinel_option": 97}
HOST_TO_DEVICE = 2.5
_PAGE_FIRST, _WRITE_THROUGH = "page_first", "write_through"
_TIMEOUT_MAX_S = 8.5

# The last rank of a group would equal its size less one in every group.
_RANK_IN_TP = 6
# Tokens that a linear-attention kernel handles at once.
_CHUNK = 64
_SERVER_ARGS = "sglang.srt.server_args"
_CONTEXT = "sglang.srt.runtime_context"
_PARALLEL_STATE = "sglang.srt.distributed.parallel_state"
# What loads compiled extensions: torch, and since 0.5.21 a function of the release before it.
_EXTENSION_LOADERS = (
    ("sglang.srt.utils.cpp_extension_loader", "load_extension_with_recovery"),
    ("torch.utils.cpp_extension", "load"),
)
_HOST_MEMORY = "hicache_host_memory_mode"
# Tokens. A tree locks anchors on a part of its pool, and never what the longest request needs: that
# is the narrower limit where a pool is small, and the wider one in the others.
_CONTEXT_LENGTH = 80
_LONE_RANK = SimpleNamespace(world_size=1, rank_in_group=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankContext:
    """The surroundings of one rank; groups that its shape lacks are None."""

    shape: RankShape  # sizes of its groups and its pipeline stage
    # The release's own arguments, published where the release has a place for them.
    server_args: Any
    tp: torch.distributed.ProcessGroup
    attn_cp: torch.distributed.ProcessGroup | None
    attn_tp: torch.distributed.ProcessGroup | None
    pp: torch.distributed.ProcessGroup | None
    device: str  # torch device of the pools
    given_flags: frozenset[str]  # server arguments that the scenario sets

    @property
    def attn_cp_rank(self) -> int:
        """Rank in the attention context-parallel group; 0 without one."""
        return self.attn_cp.rank() if self.attn_cp is not None else 0

    @property
    def attn_cp_size(self) -> int:
        """Size of the attention context-parallel group; 1 without one."""
        return max(1, self.shape.attn_cp_size)

    def arguments(self, *, groups: str) -> dict[str, Any]:
        """Return groups, ranks and sizes by parameter name; the first is ``tp_{groups}``."""
        return {
            f"tp_{groups}": self.tp,
            f"attn_cp_{groups}": self.attn_cp,
            f"attn_tp_{groups}": self.attn_tp,
            f"pp_{groups}": self.pp,
            "pp_rank": self.shape.pp_rank,
            "pp_size": self.shape.pp_size,
            "attn_cp_rank": self.attn_cp_rank,
            "attn_cp_size": self.attn_cp_size,
        }


class RankContexts:
    """Opens the surroundings of one rank at a time; those of the previous one are undone."""

    def __init__(self) -> None:
        self._group_tags: list[tuple[object, str]] = []
        self._undo_stack = ExitStack()

    def group_tag(self, group: object) -> str | None:
        """Return the role of a process group of the open context; None for any other."""
        return next((tag for known, tag in self._group_tags if known is group), None)

    def open_once(self, scenario: SglangScenario, *, device: str) -> None:
        """Open a context and close it, so that no fork has to import what a release needs for it.

        What the release refuses it refuses in the scenario again.
        """
        with suppress(Exception):
            self.open(scenario, host_gigabytes=1.0, device=device)
        self.close()

    def open(
        self,
        scenario: SglangScenario,
        *,
        host_gigabytes: float,
        device: str,
        flags: Mapping[str, Any] | None = None,
    ) -> RankContext:
        """Replace the open context by a scenario's; sizes are in decimal gigabytes.

        ``flags`` are further server arguments.

        Raises:
            UnsupportedByRelease: the release has no such parallelism.
        """
        self.close()
        shape = GROUPS[scenario.groups]
        groups = _open_groups(shape)
        self._group_tags.extend((group, tag) for tag, group in groups.items())
        arguments = _server_args(scenario, shape, host_gigabytes, device, flags=flags or {})
        # A release derives hundreds of settings here, of which a log of calls would hold each one
        # before and after every function.
        with unprofiled():
            _publish(arguments)
        self._set_parallel(shape, groups)
        self._undo_stack.enter_context(pending_operations())
        if scenario.uses_storage or scenario.configures_pools:
            self._set_coordinators(groups)
        if scenario.uses_storage:
            self._set_token_hash()
            self._undo_stack.enter_context(watched_queues())
        return RankContext(
            shape=shape,
            server_args=arguments,
            tp=groups["tp"],
            attn_cp=groups.get("attn_cp"),
            attn_tp=groups.get("attn_tp"),
            pp=groups.get("pp"),
            device=device,
            given_flags=frozenset(_given_flags(scenario, host_gigabytes, device)),
        )

    def close(self) -> None:
        """Undo everything that opening a context set."""
        self._undo_stack.close()
        self._group_tags.clear()
        reset = find_part(_CONTEXT, "reset_context")
        if reset is not None:
            reset()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _set_parallel(self, shape: RankShape, groups: dict[str, Any]) -> None:
        """Override ranks and sizes where the release has a parallel context."""
        get_parallel = find_part(_CONTEXT, "get_parallel")
        if get_parallel is None:
            return
        context, values = get_parallel(), _parallel_values(shape, groups)
        unknown: list[str] | None = []
        while unknown is not None:
            values = {name: values[name] for name in values if name not in unknown}
            unknown = self._override(context, values)

    def _override(self, context: Any, values: dict[str, Any]) -> list[str] | None:  # noqa: ANN401
        """Override parallel values until the context is closed.

        Returns:
            Names that the release does not have, in which case nothing was overridden; None when
            all values hold.
        """
        try:
            self._undo_stack.enter_context(context.override(**values))
        except ValueError as error:
            # The message is the only place where a release names the values it does not know.
            unknown = [name for name in values if repr(name) in str(error)]
            if not unknown:
                raise
            return unknown
        return None

    def _set_coordinators(self, groups: dict[str, Any]) -> None:
        """Set the older globals for ranks, and create a storage tier's own groups without peers.

        A storage tier creates its groups by agreement between all ranks and connects its backend
        to them; here there is one rank, which knows its own groups.
        """
        state = importlib.import_module(_PARALLEL_STATE)
        coordinators = {tag.upper(): _coordinator(group) for tag, group in groups.items()}
        for name, value in {"ATTN_TP": _LONE_RANK, "ATTN_CP": _LONE_RANK, **coordinators}.items():
            if getattr(state, f"_{name}", value) is None:
                self._undo_stack.enter_context(patch.object(state, f"_{name}", value))
        new_group = torch.distributed.new_group

        def own_group(group_ranks: list[int], backend: str = "") -> torch.distributed.ProcessGroup:
            del backend
            group: torch.distributed.ProcessGroup = new_group(list(group_ranks))
            return group

        self._undo_stack.enter_context(
            patch.object(state, "create_custom_parallel_group", own_group)
        )

    def _set_token_hash(self) -> None:
        """Replace the extension that some releases compile for the keys of storage.

        It is known by its own name, since the module that loads it may move.
        """
        for module_name, loader in _EXTENSION_LOADERS:
            load = find_part(module_name, loader)
            if load is not None:
                module = importlib.import_module(module_name)
                replacement = partial(load_token_hash, load)
                self._undo_stack.enter_context(patch.object(module, loader, replacement))


def _open_groups(shape: RankShape) -> dict[str, torch.distributed.ProcessGroup]:
    """Return the groups of this rank by role; tensor-parallel ranks are numbered (cp, tp)."""
    tp_rank = min(_RANK_IN_TP, shape.tp_size - 1) if shape.tp_rank is None else shape.tp_rank
    first = shape.pp_rank * shape.tp_size
    torch.distributed.init_process_group(
        "fake", store=FakeStore(), rank=first + tp_rank, world_size=shape.tp_size * shape.pp_size
    )
    width = shape.attn_tp_size or 1
    cp_ranks = range(first + tp_rank % width, first + shape.tp_size, width)
    tp_start = first + tp_rank // width * width
    members = {
        "tp": list(range(first, first + shape.tp_size)),
        "attn_cp": list(cp_ranks) if shape.attn_cp_size else [],
        "attn_tp": list(range(tp_start, tp_start + width)) if shape.attn_tp_size else [],
        "pp": [tp_rank + stage * shape.tp_size for stage in range(shape.pp_size)],
    }
    return {tag: torch.distributed.new_group(ranks) for tag, ranks in members.items() if ranks}


def _server_args(
    scenario: SglangScenario,
    shape: RankShape,
    gigabytes: float,
    device: str,
    *,
    flags: Mapping[str, Any],
) -> Any:  # noqa: ANN401 - the release's own class
    cls = find_part(_SERVER_ARGS, "ServerArgs")
    if cls is None:
        raise UnsupportedByRelease("no ServerArgs")
    taken = accepted_parameters(cls)
    if shape.dcp_size > 1 and "dcp_size" not in taken:
        raise UnsupportedByRelease("no decode context parallelism")
    if scenario.host_memory != HOST_TIER and _HOST_MEMORY not in taken:
        raise UnsupportedByRelease("host memory is always a tier")
    values = {**_given_flags(scenario, gigabytes, device), **flags}
    arguments = cls(**{key: value for key, value in values.items() if key in taken})
    # Derived defaults of some releases replace the values given here.
    for key, value in values.items():
        if key in taken and getattr(arguments, key) != value:
            raise UnsupportedByRelease(
                f"server arguments turn {key} into {getattr(arguments, key)!r}"
            )
    # A release derives it from the model's configuration, and there is no model here.
    vars(arguments)["_mamba_cache_chunk_size"] = max(_CHUNK, scenario.page_size)
    return arguments


def storage_settings(scenario: SglangScenario) -> dict[str, Any]:
    """Return the settings of a scenario's storage backend; a release loads its class by them.

    Where a page lies in one piece of the host pool, storage gets its slots instead of a copy.
    """
    if not scenario.opens_storage:
        return EXTRA_CONFIG
    is_whole = scenario.layout == _PAGE_FIRST and scenario.write_policy == _WRITE_THROUGH
    return {**EXTRA_CONFIG, **LOADER, **(NO_COPY if is_whole else {})}


def _given_flags(scenario: SglangScenario, gigabytes: float, device: str) -> dict[str, Any]:
    """Return the server arguments that a scenario sets, whatever their defaults are."""
    extra = {
        **storage_settings(scenario),
        "prefetch_threshold": PREFETCH_THRESHOLD,
        "prefetch_timeout_max": _TIMEOUT_MAX_S,
        "hicache_storage_pass_prefix_keys": True,
        "allocator": "shm",
    }
    return {
        "model_path": "dummy",
        "served_model_name": MODEL_NAME,
        "device": device,
        "page_size": scenario.page_size,
        "enable_hierarchical_cache": True,
        "hicache_ratio": HOST_TO_DEVICE,
        "hicache_size": gigabytes if scenario.sizing == "gb" else 0,
        "hicache_write_policy": scenario.write_policy,
        "hicache_io_backend": scenario.io_backend,
        "hicache_mem_layout": scenario.layout,
        "hicache_storage_backend": scenario.named_backend,
        "hicache_storage_backend_extra_config": json.dumps(extra),
        **({} if scenario.host_memory == HOST_TIER else _buffer_flags(scenario)),
    }


def _buffer_flags(scenario: SglangScenario) -> dict[str, Any]:
    """Return the server arguments of a scenario whose host memory is a buffer."""
    return {_HOST_MEMORY: scenario.host_memory, "context_length": _CONTEXT_LENGTH}


def _publish(arguments: Any) -> None:  # noqa: ANN401 - the release's own class
    publish = find_part(_SERVER_ARGS, "set_global_server_args_for_scheduler")
    if publish is not None:
        with patch.object(msgspec.structs, "fields", _fields_of):
            publish(arguments)


@cache
def _fields_of(record: type) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of a class of records.

    A release asks for the same ones whenever settings are published; evaluating their types again
    takes most of that time.
    """
    return _read_fields(record)


def _parallel_values(shape: RankShape, groups: dict[str, Any]) -> dict[str, Any]:
    def rank(tag: str) -> int:
        return int(groups[tag].rank()) if tag in groups else 0

    values: dict[str, Any] = {
        "tp_size": shape.tp_size,
        "tp_rank": rank("tp"),
        "pp_size": shape.pp_size,
        "pp_rank": shape.pp_rank,
        "attn_tp_size": max(1, shape.attn_tp_size),
        "attn_tp_rank": rank("attn_tp"),
        "attn_cp_size": max(1, shape.attn_cp_size),
        "attn_cp_rank": rank("attn_cp"),
        "attn_dp_size": 1,
        "attn_dp_rank": 0,
        "dcp_size": shape.dcp_size,
        "dcp_enabled": shape.dcp_size > 1,
        "attn_dcp_size": shape.dcp_size,
        "attn_dcp_rank": (
            shape.dcp_size - 1 if shape.tp_rank is None else shape.tp_rank % shape.dcp_size
        ),
        "moe_tp_size": shape.tp_size,
        "moe_tp_rank": rank("tp"),
        "moe_ep_size": 1,
        "moe_ep_rank": 0,
        "moe_dp_size": 1,
        "moe_dp_rank": 0,
        "nnodes": 1,
        "launch_world_size": shape.tp_size * shape.pp_size,
    }
    for tag in groups:
        values[f"{tag}_group"] = _coordinator(groups[tag])
    return values


def _coordinator(group: torch.distributed.ProcessGroup) -> SimpleNamespace:
    """Return a substitute of the release's coordinator of a group."""
    return SimpleNamespace(
        cpu_group=group,
        device_group=group,
        world_size=group.size(),
        rank_in_group=group.rank(),
        # There is no NCCL here: collectives go through the group.
        pynccl_comm=None,
    )


def ranks_of_group(group: Any) -> tuple[int, ...]:  # noqa: ANN401 - torch's own class
    """Return the ranks of a process group; none for one that was destroyed."""
    try:
        return tuple(torch.distributed.get_process_group_ranks(group))
    except KeyError:
        return ()
