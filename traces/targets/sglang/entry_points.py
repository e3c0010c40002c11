"""The entries of a release: functions and caches that assemble a stack, called with no defaults.

Every parameter that an entry takes is given a value that no default has, so that a value lost on
the way shows.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from traces.targets.common.models import PoolFamily
from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.device_pools import WINDOW, SglangDevicePools
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.rank_context import (
    EXTRA_CONFIG,
    MODEL_NAME,
    PREFETCH_THRESHOLD,
    RankContext,
)
from traces.targets.sglang.release_lookup import (
    find_builder,
    find_class,
    find_part,
    installed_release,
)
from traces.targets.sglang.scenarios import SglangScenario
from traces.targets.sglang.signature_caller import SignatureCaller, accepted_parameters
from traces.targets.sglang.storage import BACKEND, LOADER

# Families that a release knows once it has a builder for them; until then its trees refuse them.
_STACK_OF = {
    PoolFamily.SWA: "build_hybrid_swa_stack",
    PoolFamily.LINEAR_SWA: "build_hybrid_mamba_swa_stack",
    PoolFamily.MINIMAX: "build_minimax_sparse_hicache_stack",
    PoolFamily.DSV4: "build_deepseek_v4_hicache_stack",
}
_ATTACH = "attach_hybrid_pool_to_unified_cache"
_EVICT_FN = "_evict_fn"
_BACKEND = "hicache_storage_backend"
_OFFLOAD = "sglang.srt.disaggregation.decode_kvcache_offload_manager"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryResult:
    """What an entry made.

    Attributes:
        cache: the tree, or what stands in for one; None for a builder.
        group: host pools; a single host pool where the release has no group for it.
        controller: moves rows between device and host.
        complete_tree: lets the tree set its policy where the entry does not; None where the release
            has nothing for it.
    """

    cache: Any
    group: Any
    controller: Any
    complete_tree: Callable[[], None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryCall:
    """Everything an entry may be given.

    Attributes:
        scenario: what is played.
        world: groups and server arguments.
        side: device pools.
        packed_drafts: draft pools whose rows lie behind the target's.
        draft_states: states of the packed drafts, numbered by the target's state slots.
        sidecar_drafts: draft pools with host pools of their own.
        caller: calls by what signatures take.
        evictions: notes what pools ask for when they are full.
    """

    scenario: SglangScenario
    world: RankContext
    side: SglangDevicePools
    packed_drafts: tuple[Any, ...]
    draft_states: tuple[Any, ...]
    sidecar_drafts: tuple[Any, ...]
    caller: SignatureCaller
    evictions: EvictionLog

    @property
    def page_size(self) -> int:
        """Tokens a page as trees see it: decode ranks widen it."""
        return self.scenario.page_size * self.side.geometry.dcp_size

    def call_entry_point(self) -> EntryResult:
        """Assemble through the scenario's entry.

        Raises:
            Unplayable: the release has no such entry, or not for these pools.
        """
        name = self.scenario.builder
        needed = _STACK_OF.get(self.side.geometry.model.family)
        if needed is not None:
            find_builder(needed)
        match name:
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
            case _:
                return self._build()

    def params(self) -> Any:  # noqa: ANN401 - a dataclass of the release
        """Return the release's cache parameters.

        Raises:
            Unplayable: packed drafts have no place in them.
        """
        side, world = self.side, self.world
        needs: tuple[str, ...] = ()
        drafts: dict[str, Any] = {}
        if self.packed_drafts:
            needs, drafts["mtp_draft_device_pools"] = (
                ("mtp_draft_device_pools",),
                self.packed_drafts,
            )
        if self.draft_states:
            drafts["mtp_draft_mamba_pools"] = self.draft_states
        if self.sidecar_drafts:
            drafts["sidecar_draft_device_pools"] = self.sidecar_drafts
        given = {
            "disable": False,
            "req_to_token_pool": side.req_to_token_pool,
            "token_to_kv_pool_allocator": side.allocator,
            "page_size": self.page_size,
            "tp_cache_group": world.tp,
            "attn_cp_cache_group": world.attn_cp,
            "attn_tp_cache_group": world.attn_tp,
            "pp_cache_group": world.pp,
            "enable_mamba_extra_buffer": self.page_size > 1,
            "pp_rank": world.shape.pp_rank,
            "pp_size": world.shape.pp_size,
            "attn_cp_rank": world.attn_cp_rank,
            "attn_cp_size": world.attn_cp_size,
            "sliding_window_size": WINDOW if "SWA" in side.components else None,
            "tree_components": self._components(),
            **drafts,
        }
        return self.caller.call(
            find_class("CacheInitParams"), given, needs=needs, matters=("mtp_draft_mamba_pools",)
        )

    def _components(self) -> tuple[Any, ...] | None:
        cls = find_part("sglang.srt.mem_cache.unified_cache.component_type", "ComponentType")
        cls = cls or find_part("sglang.srt.mem_cache.unified_cache_components", "ComponentType")
        return None if cls is None else tuple(cls[name] for name in self.side.components)

    def _build(self) -> EntryResult:
        """Call a stack builder itself."""
        builder = find_builder(self.scenario.builder)
        group, controller, *_ = self.caller.call(
            builder, self._arguments(builder), matters=("override_kv_cache_dim",)
        )
        counter = controller.layer_done_counter
        self.side.kvcache.register_layer_transfer_counter(counter)
        if "MAMBA" in self.side.pools:
            self.side.req_to_token_pool.register_layer_transfer_counter(counter)
        return EntryResult(cache=None, group=group, controller=controller, complete_tree=None)

    def _shared(self) -> dict[str, Any]:
        """Return what builders, attach functions and caches have in common."""
        world = self.world
        return {
            "params": self.params(),
            "server_args": world.server_args,
            "page_size": self.page_size,
            "tp_group": world.tp,
            "attn_cp_group": world.attn_cp,
            "attn_tp_group": world.attn_tp,
            "pp_group": world.pp,
            "pp_rank": world.shape.pp_rank,
            "pp_size": world.shape.pp_size,
            "attn_cp_rank": world.attn_cp_rank,
            "attn_cp_size": world.attn_cp_size,
            "load_cache_event": threading.Event(),
            "storage_backend": BACKEND if self.scenario.opens_storage else None,
            "prefetch_threshold": PREFETCH_THRESHOLD,
            "storage_prefetch_threshold": PREFETCH_THRESHOLD,
            "model_name": MODEL_NAME,
            "storage_backend_extra_config": self._extra_config(),
            "storage_extra_config": self._extra_config(),
            "extra_config": self._extra_config(),
            "enable_storage_metrics": True,
        }

    def _extra_config(self) -> dict[str, Any]:
        """Return a storage backend's own settings, by which it is loaded where it is opened."""
        return {**EXTRA_CONFIG, **(LOADER if self.scenario.opens_storage else {})}

    def _arguments(self, builder: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments of a stack builder."""
        side, geometry, taken = self.side, self.side.geometry, accepted_parameters(builder)
        model = geometry.model
        indexer = find_class("PoolName").INDEXER
        given = {
            **self._shared(),
            "kvcache": side.kvcache,
            "sparse_pool": side.kvcache,
            "kv_pool": side.pools.get("KV"),
            "full_kv_pool": side.pools.get("KV"),
            "swa_kv_pool": side.pools.get("SWA"),
            "mamba_pool": side.pools.get("MAMBA"),
            "mamba_allocator": getattr(side.req_to_token_pool, "mamba_allocator", None),
            "qsa_pool": side.kvcache if model.family is PoolFamily.QSA else None,
            "start_layer": geometry.start_layer,
            "full_layer_mapping": _indices(model.full_layers),
            "swa_layer_mapping": _indices(model.swa_layers),
            "mamba_layer_mapping": _indices(model.state_layers),
            "use_mla": not model.attention.kv_heads,
            "override_kv_cache_dim": geometry.packed_width,
            **{name: self.evictions.named(name) for name in taken if name.endswith(_EVICT_FN)},
            "sidecar_pool_name": indexer,
            "shared_pool_name": indexer,
            "sidecar_host_pool_factory": self._index_host,
            "shared_host_pool_factory": self._index_host,
        }
        if "decls" in taken:
            given["decls"] = side.kvcache.host_pool_decls()
        if model.family is PoolFamily.QSA and "qsa_pool" not in taken:
            raise UnsupportedByRelease(f"{self.scenario.builder} takes no qsa_pool")
        return given

    def _index_host(self, anchor: Any) -> Any:  # noqa: ANN401 - a host pool of the release
        """Build the host pool of the index keys, as the release's own callers do."""
        arguments = self.world.server_args
        given = {
            "device_pool": self.side.kvcache,
            "anchor_host": anchor,
            "layout": arguments.hicache_mem_layout,
            "allocator_type": arguments.hicache_storage_backend,
        }
        return self.caller.call(find_class("DSAIndexerPoolHost"), given)

    def _attach_to_unified(self) -> EntryResult:
        attach = find_builder(self.scenario.builder)
        given = self._shared()
        cache = self.caller.call(find_class("UnifiedRadixCache"), {"params": given["params"]})
        # A tree that reports metrics wants a metrics backend; the stack only passes the flag on.
        if hasattr(cache, "_enable_metrics_flag"):
            vars(cache)["_enable_metrics_flag"] = True
        self.caller.call(attach, {**given, "cache": cache})
        if not hasattr(cache, "init_hicache"):
            return _entry_result(cache, complete_tree=None)
        return _entry_result(cache, complete_tree=lambda: self._init_attached(cache, given))

    def _init_attached(self, cache: Any, given: dict[str, Any]) -> None:  # noqa: ANN401
        """Let a tree that has its stack do the rest of its own start."""
        specs = list(cache.sidecar_pool_specs)

        def is_attached(*_arguments: object, **_named: object) -> None:
            cache.sidecar_pool_specs[:] = specs

        arguments = given["server_args"]
        with ExitStack() as replaced:
            # Only the name of a storage backend is played: what is told of it here would be opened.
            replaced.enter_context(patch.dict(vars(arguments), {_BACKEND: None}))
            memory = find_part("sglang.srt.runtime_context", "get_memory")
            if memory is not None:
                replaced.enter_context(memory().override(**{_BACKEND: None}))
            for module in installed_release().modules:
                if hasattr(module, _ATTACH):
                    replaced.enter_context(patch.object(module, _ATTACH, is_attached))
            self.caller.call(cache.init_hicache, given)

    def _attach_to_hiradix(self) -> EntryResult:
        attach = find_builder(self.scenario.builder)
        given = self._shared()
        cache = SimpleNamespace(kv_cache=self.side.kvcache, **_ranks(given))
        self.caller.call(attach, {**given, "radix_cache": cache})
        return _entry_result(cache)

    def _attach_to_mamba(self) -> EntryResult:
        attach = find_builder(self.scenario.builder)
        given = self._shared()
        cache = SimpleNamespace(
            hybrid_kv_cache=self.side.kvcache,
            kvcache=self.side.pools["KV"],
            evict_mamba_host=self.evictions.named("evict_mamba_host"),
            evict_mamba=self.evictions.named("evict_mamba"),
            **_ranks(given),
        )
        self.caller.call(attach, {**given, "mamba_cache": cache})
        return _entry_result(cache)

    def _construct(self) -> EntryResult:
        """Let a cache that builds its stack in its constructor do so."""
        given = {"params": self.params(), "server_args": self.world.server_args}
        cache = self.caller.call(find_class(self.scenario.builder), given)
        return _entry_result(cache, complete_tree=_nothing_to_complete)

    def _init_unified(self) -> EntryResult:
        cls = find_class("UnifiedRadixCache")
        if not hasattr(cls, "init_hicache"):
            raise UnsupportedByRelease("UnifiedRadixCache has no init_hicache")
        given = {"params": self.params(), "server_args": self.world.server_args}
        cache = self.caller.call(cls, given)
        self.caller.call(cache.init_hicache, given)
        return _entry_result(cache, complete_tree=_nothing_to_complete)

    def _offload(self) -> EntryResult:
        cls = find_part(_OFFLOAD, "DecodeKVCacheOffloadManager")
        if cls is None:
            raise UnsupportedByRelease("no class DecodeKVCacheOffloadManager")
        given = {
            "req_to_token_pool": self.side.req_to_token_pool,
            "token_to_kv_pool_allocator": self.side.allocator,
            "tp_group": self.world.tp,
            "tree_cache": SimpleNamespace(),
            "server_args": self.world.server_args,
        }
        return _entry_result(self.caller.call(cls, given))


def _entry_result(cache: Any, *, complete_tree: Callable[[], None] | None = None) -> EntryResult:  # noqa: ANN401
    controller = cache.cache_controller
    return EntryResult(
        cache=cache,
        group=controller.mem_pool_host,
        controller=controller,
        complete_tree=complete_tree,
    )


def _nothing_to_complete() -> None:
    """Do nothing: the entry made all of the tree."""


def _ranks(given: dict[str, Any]) -> dict[str, Any]:
    names = ("page_size", "tp_group", "pp_group", "attn_cp_group", "attn_tp_group")
    return {name: given[name] for name in (*names, "pp_rank", "pp_size")}


def _indices(layers: tuple[int, ...]) -> dict[int, int]:
    """Return stage-local layer ids with their places in a pool."""
    return {layer: index for index, layer in enumerate(layers)}
