"""Calls of a release's entry points: functions and caches that assemble a stack.

Every parameter that an entry point takes is given a value that no default has, so that a value
lost on the way shows.
"""

import dataclasses
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from traces.targets.common.scenario import IO_BACKENDS
from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.device_pools import SglangDevicePools
from traces.targets.sglang.discovery import (
    find_builder,
    find_class,
    find_hisparse,
    find_part,
    installed_release,
)
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.families import FAMILY_OF
from traces.targets.sglang.hisparse_scenarios import coordinator_sizes
from traces.targets.sglang.rank_context import (
    MODEL_NAME,
    PREFETCH_THRESHOLD,
    RankContext,
    storage_settings,
)
from traces.targets.sglang.scenarios import HOST_TIER, SglangScenario
from traces.targets.sglang.signature_caller import SignatureCaller, accepted_parameters
from traces.targets.sglang.storage import BACKEND

_ATTACH = "attach_hybrid_pool_to_unified_cache"
_EVICT_FN = "_evict_fn"
_BACKEND = "hicache_storage_backend"
_TREE_CORES = "sglang.srt.mem_cache.unified_cache.tree_core_registry"
_OFFLOAD = "sglang.srt.disaggregation.decode_kvcache_offload_manager"
_CHUNKS = "sglang.srt.mem_cache.chunk_cache"


def require_entry_point(scenario: SglangScenario) -> None:
    """Raise where the release has no entry point for a scenario; nothing is called.

    Raises:
        UnsupportedByRelease: the release lacks the function or class that the scenario names, or
            the one that every stack of its family needs.
    """
    needed = FAMILY_OF[scenario.model].stack_builder
    if needed:
        find_builder(needed)
    match scenario.builder:
        case "HiRadixCache" | "HiMambaRadixCache" as name:
            find_class(name)
        case "UnifiedRadixCache.init_hicache":
            if not hasattr(find_class("UnifiedRadixCache"), "init_hicache"):
                raise UnsupportedByRelease("UnifiedRadixCache has no init_hicache")
        case "DecodeKVCacheOffloadManager":
            pass  # Its module is imported with the call.
        case "HiSparseCoordinator":
            find_hisparse()
        case name:
            find_builder(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryResult:
    """The parts that an entry point created; see :class:`AssembledStack`."""

    cache: Any
    group: Any
    controller: Any
    complete_tree: Callable[[], None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCall:
    """Arguments for any entry point."""

    scenario: SglangScenario  # names the entry point
    context: RankContext  # groups and server arguments
    device_pools: SglangDevicePools  # pools, allocators and request table
    packed_drafts: tuple[Any, ...]  # draft pools whose rows lie behind the target's
    # States of the packed drafts, numbered by the target's state slots.
    draft_states: tuple[Any, ...]
    sidecar_drafts: tuple[Any, ...]  # draft pools with host pools of their own
    caller: SignatureCaller  # calls by what signatures take
    evictions: EvictionLog  # records the evictions that full pools request

    @property
    def drafts(self) -> tuple[Any, ...]:
        """Draft pools of either kind."""
        return self.packed_drafts or self.sidecar_drafts

    @property
    def page_size(self) -> int:
        """Tokens a page as trees see it: decode ranks widen it."""
        return self.scenario.page_size * self.device_pools.geometry.dcp_size

    def call_entry_point(self) -> EntryResult:
        """Assemble through the scenario's entry point.

        Raises:
            UnsupportedByRelease: the entry point is missing, or is not for these pools.
        """
        match self.scenario.builder:
            case "attach_hybrid_pool_to_unified_cache":
                return self._attach_to_unified()
            case "attach_hybrid_pool_to_mamba_cache":
                return self._attach_to_mamba()
            case (
                "attach_hybrid_dsa_pool_to_hiradix_cache"
                | "attach_hybrid_minimax_sparse_pool_to_hiradix_cache"
            ):
                return self._attach_to_hiradix()
            case "HiRadixCache" | "HiMambaRadixCache":
                return self._construct()
            case "UnifiedRadixCache.init_hicache":
                return self._init_unified()
            case "DecodeKVCacheOffloadManager":
                return self._offload()
            case "HiSparseCoordinator":
                return self._keep_sparse()
            case _:
                return self._build()

    def params(self) -> Any:  # noqa: ANN401 - a dataclass of the release
        """Return the release's cache parameters.

        Raises:
            UnsupportedByRelease: packed drafts have no place in them.
        """
        pools = self.device_pools
        drafts = {
            "mtp_draft_device_pools": self.packed_drafts,
            "mtp_draft_mamba_pools": self.draft_states,
            "sidecar_draft_device_pools": self.sidecar_drafts,
        }
        given = {
            "disable": False,
            "req_to_token_pool": pools.req_to_token_pool,
            "token_to_kv_pool_allocator": pools.allocator,
            "page_size": self.page_size,
            **self.context.arguments(groups="cache_group"),
            "enable_mamba_extra_buffer": self.page_size > 1,
            "sliding_window_size": pools.geometry.window if "SWA" in pools.components else None,
            "tree_components": self._components(),
            "tree_core_backend": self._tree_core(),
            "is_eagle": bool(self.packed_drafts or self.sidecar_drafts),
            **{name: own for name, own in drafts.items() if own},
        }
        return self.caller.call(
            find_class("CacheInitParams"),
            given,
            needs=("mtp_draft_device_pools",) if self.packed_drafts else (),
            matters=("mtp_draft_mamba_pools",),
        )

    def _tree_core(self) -> str | None:
        """Return the name of a tree core: where a release has several, scenarios take turns.

        It is chosen by the way in which rows are moved, which every family has two of.
        """
        registered = find_part(_TREE_CORES, "registered_tree_core_backends")
        if registered is None:
            return None
        names: list[str] = registered()
        return names[IO_BACKENDS.index(self.scenario.io_backend) % len(names)]

    def _components(self) -> tuple[Any, ...] | None:
        cls = find_part("sglang.srt.mem_cache.unified_cache.component_type", "ComponentType")
        cls = cls or find_part("sglang.srt.mem_cache.unified_cache_components", "ComponentType")
        return None if cls is None else tuple(cls[name] for name in self.device_pools.components)

    def _build(self) -> EntryResult:
        """Call a stack builder."""
        builder = find_builder(self.scenario.builder)
        group, controller, *_ = self.caller.call(
            builder, self._arguments(builder), matters=("override_kv_cache_dim",)
        )
        counter = controller.layer_done_counter
        self.device_pools.kvcache.register_layer_transfer_counter(counter)
        if "MAMBA" in self.device_pools.pools:
            self.device_pools.req_to_token_pool.register_layer_transfer_counter(counter)
        return EntryResult(cache=None, group=group, controller=controller, complete_tree=None)

    def _shared(self) -> dict[str, Any]:
        """Return the arguments that builders, attach functions and caches share."""
        return {
            "params": self.params(),
            "server_args": self.context.server_args,
            "page_size": self.page_size,
            **self.context.arguments(groups="group"),
            "load_cache_event": threading.Event(),
            "storage_backend": BACKEND if self.scenario.opens_storage else None,
            "prefetch_threshold": PREFETCH_THRESHOLD,
            "storage_prefetch_threshold": PREFETCH_THRESHOLD,
            "model_name": MODEL_NAME,
            "storage_backend_extra_config": storage_settings(self.scenario),
            "storage_extra_config": storage_settings(self.scenario),
            "extra_config": storage_settings(self.scenario),
            "enable_storage_metrics": True,
        }

    def _arguments(self, builder: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments of a stack builder."""
        pools, geometry = self.device_pools, self.device_pools.geometry
        taken = accepted_parameters(builder)
        model = geometry.model
        indexer = find_class("PoolName").INDEXER
        compresses_index = geometry.family.compresses_index
        given = {
            **self._shared(),
            "kvcache": pools.kvcache,
            "sparse_pool": pools.kvcache,
            "kv_pool": pools.pools.get("KV"),
            "full_kv_pool": pools.pools.get("KV"),
            "swa_kv_pool": pools.pools.get("SWA"),
            "mamba_pool": pools.pools.get("MAMBA"),
            "mamba_allocator": getattr(pools.req_to_token_pool, "mamba_allocator", None),
            "qsa_pool": pools.kvcache if compresses_index else None,
            "start_layer": geometry.start_layer,
            "full_layer_mapping": _indices(model.full_layers),
            "swa_layer_mapping": _indices(model.swa_layers),
            "mamba_layer_mapping": _indices(model.state_layers),
            "use_mla": not model.attention.kv_heads,
            "override_kv_cache_dim": geometry.packed_width,
            **{
                name: self.evictions.recording_function(name)
                for name in taken
                if name.endswith(_EVICT_FN)
            },
            "sidecar_pool_name": indexer,
            "shared_pool_name": indexer,
            "sidecar_host_pool_factory": self._index_host,
            "shared_host_pool_factory": self._index_host,
        }
        if "decls" in taken:
            given["decls"] = pools.kvcache.host_pool_decls()
        if compresses_index and "qsa_pool" not in taken:
            raise UnsupportedByRelease(f"{self.scenario.builder} takes no qsa_pool")
        return given

    def _index_host(self, anchor: Any) -> Any:  # noqa: ANN401 - a host pool of the release
        """Build the host pool of the index keys, as the release's own callers do."""
        arguments = self.context.server_args
        given = {
            "device_pool": self.device_pools.kvcache,
            "anchor_host": anchor,
            "layout": arguments.hicache_mem_layout,
            "allocator_type": arguments.hicache_storage_backend,
        }
        return self.caller.call(find_class("DSAIndexerPoolHost"), given)

    def _attach_to_unified(self) -> EntryResult:
        attach = find_builder(self.scenario.builder)
        given = self._shared()
        cache = self.caller.call(find_class("UnifiedRadixCache"), {"params": given["params"]})
        # Set after construction: a tree constructed with the flag imports a metrics backend.
        if hasattr(cache, "_enable_metrics_flag"):
            vars(cache)["_enable_metrics_flag"] = True
        self.caller.call(attach, {**given, "cache": cache})
        if not hasattr(cache, "init_hicache"):
            return _entry_result(cache, complete_tree=None)
        return _entry_result(cache, complete_tree=lambda: self._init_attached(cache, given))

    def build_by_strategy(self) -> None:
        """Call the strategy that an attach function would choose, with all that it takes.

        An attach function hands on what every strategy takes. Nothing where this one takes no more.
        """
        given = self._shared()
        cache = self.caller.call(find_class("UnifiedRadixCache"), {"params": given["params"]})
        kvcache = self.device_pools.kvcache
        for cls in installed_release().strategies():
            strategy: Any = cls()
            if strategy.matches(kvcache, set(cache.components)):
                base: Any = cls.__mro__[1]
                if accepted_parameters(strategy.build) - accepted_parameters(base.build):
                    self.caller.call(strategy.build, {**given, "cache": cache, "kvcache": kvcache})
                return

    def _init_attached(self, cache: Any, given: dict[str, Any]) -> None:  # noqa: ANN401
        """Run the rest of a tree's own start after its stack was attached."""
        specs = list(cache.sidecar_pool_specs)

        def keep_attached(*_arguments: object, **_named: object) -> None:
            cache.sidecar_pool_specs[:] = specs

        arguments = given["server_args"]
        with ExitStack() as replaced:
            # The tree would open the storage backend that its arguments name.
            replaced.enter_context(patch.dict(vars(arguments), {_BACKEND: None}))
            memory = find_part("sglang.srt.runtime_context", "get_memory")
            if memory is not None:
                replaced.enter_context(memory().override(**{_BACKEND: None}))
            for module in installed_release().modules:
                if hasattr(module, _ATTACH):
                    replaced.enter_context(patch.object(module, _ATTACH, keep_attached))
            self.caller.call(cache.init_hicache, given)

    def _attach_to_hiradix(self) -> EntryResult:
        attach = find_builder(self.scenario.builder)
        given = self._shared()
        cache = SimpleNamespace(kv_cache=self.device_pools.kvcache, **_ranks(given))
        self.caller.call(attach, {**given, "radix_cache": cache})
        return _entry_result(cache)

    def _attach_to_mamba(self) -> EntryResult:
        attach = find_builder(self.scenario.builder)
        given = self._shared()
        cache = SimpleNamespace(
            hybrid_kv_cache=self.device_pools.kvcache,
            kvcache=self.device_pools.pools["KV"],
            evict_mamba_host=self.evictions.recording_function("evict_mamba_host"),
            evict_mamba=self.evictions.recording_function("evict_mamba"),
            **_ranks(given),
        )
        self.caller.call(attach, {**given, "mamba_cache": cache})
        return _entry_result(cache)

    def _construct(self) -> EntryResult:
        """Construct a cache that builds its stack itself."""
        given = {"params": self.params(), "server_args": self.context.server_args}
        cache = self.caller.call(find_class(self.scenario.builder), given)
        return _entry_result(cache, complete_tree=lambda: None)

    def _init_unified(self) -> EntryResult:
        cls = find_class("UnifiedRadixCache")
        given = {"params": self.params(), "server_args": self.context.server_args}
        cache = self.caller.call(cls, given)
        try:
            self.caller.call(cache.init_hicache, given)
        except ValueError as error:
            if self.scenario.host_memory == HOST_TIER:
                raise
            # It says for which trees host memory can be a buffer, before it makes anything.
            raise UnsupportedByRelease(str(error)) from error
        return _entry_result(cache, complete_tree=lambda: None)

    def _offload(self) -> EntryResult:
        cls = find_part(_OFFLOAD, "DecodeKVCacheOffloadManager")
        if cls is None:
            raise UnsupportedByRelease("no class DecodeKVCacheOffloadManager")
        given = {
            "req_to_token_pool": self.device_pools.req_to_token_pool,
            "token_to_kv_pool_allocator": self.device_pools.allocator,
            "tp_group": self.context.tp,
            "tree_cache": self._tree_without_prefixes(),
            "server_args": self.context.server_args,
        }
        return _entry_result(self.caller.call(cls, given))

    def _keep_sparse(self) -> EntryResult:
        """Construct what keeps a part of each request's rows on the device."""
        given = {
            "req_to_token_pool": self.device_pools.req_to_token_pool,
            "token_to_kv_pool_allocator": self.device_pools.allocator,
            "device": self.context.device,
            "tp_group": self.context.tp,
            **coordinator_sizes(self.device_pools.geometry),
        }
        made = self.caller.call(find_hisparse(), given)
        tree, host = self._tree_without_prefixes(), made.mem_pool_host
        return EntryResult(cache=tree, group=host, controller=made, complete_tree=None)

    def _tree_without_prefixes(self) -> Any:  # noqa: ANN401 - any class of the release
        """Return the tree of a server that keeps the rows of running requests alone."""
        cls = find_part(_CHUNKS, "ChunkCache") or find_class("UnifiedRadixCache")
        params = dataclasses.replace(self.params(), disable=True)
        return self.caller.call(cls, {"params": params})


def _entry_result(cache: Any, *, complete_tree: Callable[[], None] | None = None) -> EntryResult:  # noqa: ANN401
    controller = cache.cache_controller
    return EntryResult(
        cache=cache,
        group=controller.mem_pool_host,
        controller=controller,
        complete_tree=complete_tree,
    )


def _ranks(given: dict[str, Any]) -> dict[str, Any]:
    names = ("page_size", "tp_group", "pp_group", "attn_cp_group", "attn_tp_group")
    return {name: given[name] for name in (*names, "pp_rank", "pp_size")}


def _indices(layers: tuple[int, ...]) -> dict[int, int]:
    """Return the place in a pool of each stage-local layer id."""
    return {layer: index for index, layer in enumerate(layers)}
