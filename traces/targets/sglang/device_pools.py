"""Device pools of a scenario: the release's own pools, allocators and request table of one rank."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.discovery import find_class
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.families import FAMILIES
from traces.targets.sglang.geometry import SglangGeometry, draft_geometry, geometry_of_family
from traces.targets.sglang.hisparse_scenarios import HOST_ROWS
from traces.targets.sglang.pageable import defined_content
from traces.targets.sglang.pool_variants import PLAIN, PoolVariant
from traces.targets.sglang.product_rows import BARE_POOL, FULL_WINDOWS, STATEFUL_POOL
from traces.targets.sglang.request_table import build_request_table
from traces.targets.sglang.signature_caller import SignatureCaller

_QSA_RATIO = 4
_SHARD_RANK = 1
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# Ratios of which several layers share the rows of one.
_SHARED_RATIOS = (1, 2)
# Set by the release on a pool whose windows are numbered by the slots of full attention.
_FULL_INDICES = "swa_uses_full_indices"


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangDevicePools:
    """Device pools, allocators and request table of one rank."""

    geometry: SglangGeometry
    kvcache: Any  # the pool attention reads from; a wrapper for the hybrids
    allocator: Any  # allocates its slots
    full_allocator: Any  # allocates the KV slots; the allocator itself, or one inside it
    req_to_token_pool: Any  # request table, with the state pool where the model has state
    components: tuple[str, ...]  # parts of a unified tree, by name
    pools: dict[str, Any]  # device pools that hold rows, by the name of their host pool


@dataclass(frozen=True, slots=True)
class DevicePoolBuilder:
    """Builds a release's pools from a geometry."""

    caller: SignatureCaller
    device: str
    # Of the pools of a target; a draft has the family's.
    variant: PoolVariant = PLAIN

    @defined_content()
    def build(self, geometry: SglangGeometry) -> SglangDevicePools:
        """Build the pools and allocators of a geometry.

        Raises:
            UnsupportedByRelease: the release has no such pools.
        """
        family = geometry.family
        requests = build_request_table(self.caller, geometry, device=self.device)
        with self.variant.surroundings():
            pool = self._outer_pool(geometry, requests, variant=self.variant)
        allocator = self._allocator(geometry, pool, requests)
        # Slots of requests may stand for slots of the pool, which have an allocator of their own.
        full_allocator = getattr(allocator, "hisparse_attn_allocator", allocator)
        if family.is_windowed:
            full_allocator = allocator.full_attn_allocator
        pools = {
            key: getattr(pool, name, None) if name else pool
            for key, name in family.inner_pools.items()
        }
        if geometry.model.state_layers:
            # Before INDEXER, whose pool may reach the states: poison of the last pool stays.
            index = pools.pop("INDEXER", None)
            pools |= {"MAMBA": requests.mamba_pool, "INDEXER": index}
        return SglangDevicePools(
            geometry=geometry,
            kvcache=pool,
            allocator=allocator,
            full_allocator=full_allocator,
            req_to_token_pool=requests,
            components=component_names(is_windowed=family.is_windowed, has_states="MAMBA" in pools),
            pools={name: own for name, own in pools.items() if own is not None},
        )

    @defined_content()
    def draft(self, pools: SglangDevicePools, *, kind: str) -> Any:  # noqa: ANN401 - of the release
        """Build the pool of one draft layer: the target's rows, over the slots of all ranks.

        Beside states, a draft has a wrapper like the target's and shares its states. ``kind`` may
        be the pool inside such a wrapper, or the family of another model.
        """
        if kind in FAMILIES:
            geometry = draft_geometry(geometry_of_family(pools.geometry, kind))
            return self._outer_pool(geometry, pools.req_to_token_pool)
        if kind == FULL_WINDOWS:
            return self._full_windows(draft_geometry(pools.geometry, has_window=True))
        own = self._outer_pool(draft_geometry(pools.geometry), pools.req_to_token_pool)
        inner = next(iter(pools.geometry.family.inner_pools.values()))
        return getattr(own, inner) if kind == BARE_POOL and inner else own

    def draft_states(self, pools: SglangDevicePools, *, kind: str) -> Any | None:  # noqa: ANN401 - a pool of the release
        """Build the states of one draft layer, numbered by the target's state slots.

        None where a draft has no states, or shares the target's; ``kind`` is that of its pool.
        """
        geometry = draft_geometry(pools.geometry, has_states=kind == STATEFUL_POOL)
        if not geometry.model.state_layers:
            return None
        return build_request_table(self.caller, geometry, device=self.device).mamba_pool

    def _outer_pool(
        self,
        geometry: SglangGeometry,
        requests: Any,  # noqa: ANN401 - of the release
        *,
        variant: PoolVariant = PLAIN,
    ) -> Any:  # noqa: ANN401 - of the release
        """Build the pool that attention reads from, with the pools inside of it."""
        match geometry.family.constructor:
            case "sliding":
                return self._sliding_pool(geometry)
            case "linear":
                return self._linear_pool(geometry, requests)
            case "minimax":
                return self._minimax_pool(geometry, variant)
            case "deepseek_v4":
                return self._deepseek_v4_pool(geometry, variant)
            case "plain":
                return self._plain_pool(geometry)

    def _plain_pool(self, geometry: SglangGeometry) -> Any:  # noqa: ANN401
        cls = find_class(geometry.pool_class)
        width = geometry.packed_width
        needs: tuple[str, ...] = ("head_num", "head_dim")
        if not geometry.model.attention.kv_heads:
            needs = ("kv_lora_rank", "qk_rope_head_dim")
        if geometry.family.packs_fp8 and not geometry.model.index_head_dim:
            needs += ("override_kv_cache_dim",)
        given = {
            **self._rows(geometry),
            "layer_num": len(geometry.model.full_layers),
            "start_layer": geometry.start_layer,
            "end_layer": geometry.start_layer + len(geometry.model.full_layers) - 1,
            "use_nsa": width is not None,
            "use_dsa": width is not None,
            "override_kv_cache_dim": width,
            "dcp_replicated": False,
            "host_to_device_ratio": HOST_ROWS,
            **shard_arguments(cls),
        }
        if geometry.pool_class != geometry.family.pool_class:
            return cls(**_taken(cls, given))
        return self.caller.call(
            cls, given, needs=needs, matters=("v_head_dim",) if "head_dim" in needs else ()
        )

    def _rows(self, geometry: SglangGeometry) -> dict[str, Any]:
        """Return the arguments that KV pools share."""
        attention = geometry.model.attention
        return {
            "size": geometry.size,
            "page_size": geometry.page_size,
            "dtype": geometry.dtype,
            "head_num": geometry.kv_heads,
            "head_dim": attention.head_dim,
            "v_head_dim": attention.v_head_dim,
            "kv_lora_rank": attention.kv_lora_rank,
            "qk_rope_head_dim": attention.qk_rope_head_dim,
            "index_head_dim": geometry.model.index_head_dim,
            "kv_cache_dim": geometry.packed_width
            or attention.kv_lora_rank + attention.qk_rope_head_dim,
            "device": self.device,
            "enable_memory_saver": False,
            "enable_kvcache_transpose": False,
        }

    def _allocator(self, geometry: SglangGeometry, kvcache: Any, requests: Any) -> Any:  # noqa: ANN401
        """Build the allocator of a pool; its slots are those of all decode ranks."""
        paged = "" if geometry.page_size == 1 else "Paged"
        is_windowed = geometry.family.is_windowed
        name = "SWATokenToKVPoolAllocator" if is_windowed else f"{paged}TokenToKVPoolAllocator"
        given = {
            "size": geometry.size * geometry.dcp_size,
            "size_swa": geometry.swa_size,
            "page_size": geometry.page_size * geometry.dcp_size,
            "dtype": geometry.dtype,
            "device": self.device,
            "kvcache": kvcache,
            # Windows may be slots of requests.
            "req_to_token_pool": requests,
            "need_sort": False,
            "host_to_device_ratio": HOST_ROWS,
        }
        return self.caller.call(self.variant.allocator_class or find_class(name), given)

    def _full_windows(self, geometry: SglangGeometry) -> Any:  # noqa: ANN401
        """Build a draft pool whose windows keep every token, as a release tells its stack of one.

        Raises:
            UnsupportedByRelease: the release has no such drafts.
        """
        pool = self._sliding_pool(geometry, window_slots=geometry.size)
        if not hasattr(pool, _FULL_INDICES):
            raise UnsupportedByRelease(f"{type(pool).__name__} has no {_FULL_INDICES}")
        slots = torch.arange(geometry.size + geometry.page_size + 1, device=self.device)
        # A slot of none stays one.
        slots[-1] = -1
        pool.register_mapping(slots)
        setattr(pool, _FULL_INDICES, True)
        return pool

    def _sliding_pool(self, geometry: SglangGeometry, *, window_slots: int | None = None) -> Any:  # noqa: ANN401
        model = geometry.model
        given = {
            **self._rows(geometry),
            "size_swa": geometry.swa_size if window_slots is None else window_slots,
            "swa_attention_layer_ids": geometry.global_ids(model.swa_layers),
            "full_attention_layer_ids": geometry.global_ids(model.full_layers),
        }
        return self.caller.call(find_class(geometry.pool_class), given, needs=("size_swa",))

    def _linear_pool(self, geometry: SglangGeometry, requests: Any) -> Any:  # noqa: ANN401
        model = geometry.model
        cls = find_class(geometry.pool_class)
        is_sparse = geometry.family.packs_fp8
        given = {
            **self._rows(geometry),
            "full_attention_layer_ids": geometry.global_ids(model.full_layers),
            "start_layer": geometry.start_layer,
            "mamba_pool": requests.mamba_pool,
            "use_mla": not model.attention.kv_heads,
            "qsa_index_kv_heads": 1,
            "qsa_index_head_dim": model.index_head_dim,
            "qsa_compress_ratio": _QSA_RATIO,
            "qsa_token_topk": _QSA_RATIO * _QSA_RATIO,
            "num_request_slots": requests.req_to_token.shape[0],
            **({"use_dsa": True} if is_sparse else {}),
        }
        needs = ("use_dsa", "index_head_dim", "kv_cache_dim") if is_sparse else ()
        return self.caller.call(cls, given, needs=needs)

    def _minimax_pool(self, geometry: SglangGeometry, variant: PoolVariant) -> Any:  # noqa: ANN401
        model = geometry.model
        dense = tuple(layer for layer in model.full_layers if layer not in model.index_layers)
        index = geometry.global_ids(model.index_layers)
        given = {
            **self._rows(geometry),
            "idx_head_dim": model.index_head_dim,
            "dense_layer_ids": geometry.global_ids(dense),
            "sparse_layer_ids": index,
            "disable_value_sparse_layer_ids": index,
            "start_layer": geometry.start_layer,
            # Exclusive, unlike every other pool's.
            "end_layer": geometry.end_layer + 1,
            **variant.arguments,
        }
        cls = find_class(geometry.pool_class)
        if cls is not find_class(geometry.family.pool_class):
            return cls(**_taken(cls, given))
        return self.caller.call(cls, given, needs=tuple(variant.arguments))

    def _deepseek_v4_pool(self, geometry: SglangGeometry, variant: PoolVariant) -> Any:  # noqa: ANN401
        page, size, swa = geometry.page_size, geometry.size, geometry.swa_size
        model = geometry.model
        first = geometry.start_layer
        ratios = model.compress_ratios
        sources = [
            first + layer
            for layer, ratio in enumerate(ratios)
            if ratio in _SHARED_RATIOS and ratio not in ratios[:layer]
        ]
        given = {
            **self._rows(geometry),
            "max_num_reqs": 2,
            "full_size": size,
            "swa_size": swa,
            "c4_size": size // 4,
            "c128_size": size // 128,
            # Ring states: eight slots a window page, and 128 for the coarser cache.
            "c4_state_pool_size": swa // page * 8,
            "c128_state_pool_size": swa // page * 128,
            "swa_page_size": page,
            "state_dtype": torch.float32,
            "c4_state_dtype": torch.float32,
            "c128_state_dtype": torch.float32,
            "qk_nope_head_dim": model.attention.head_dim,
            "indexer_head_dim": model.index_head_dim,
            "layer_num": model.layer_span,
            "compression_ratios": list(ratios) * (first // model.layer_span + 1),
            **({"kv_source_layers": sources} if sources else {}),
            "sliding_window": geometry.window,
            "start_layer": first,
            # Exclusive, unlike every other pool's.
            "end_layer": geometry.end_layer + 1,
            **variant.arguments,
        }
        if variant.pool_class is not None:
            return variant.pool_class(**_taken(variant.pool_class, given))
        needs = ("kv_source_layers",) if sources else ()
        return self.caller.call(find_class(geometry.pool_class), given, needs=needs)


def constructor_parameters(cls: type) -> frozenset[str]:
    """Return the parameters of a class that hands some on to the classes it inherits from."""
    return frozenset(parameter.name for parameter in _parameters(cls))


def required_parameters(cls: type) -> frozenset[str]:
    """Return those of :func:`constructor_parameters` that have no default, ``self`` included."""
    empty, variable = inspect.Parameter.empty, _VARIABLE
    needed = (one for one in _parameters(cls) if one.default is empty)
    return frozenset(one.name for one in needed if one.kind not in variable)


def _parameters(cls: type) -> Iterator[inspect.Parameter]:
    for maker in (vars(one)["__init__"] for one in cls.__mro__ if "__init__" in vars(one)):
        parameters = inspect.signature(maker).parameters.values()
        yield from parameters
        if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters):
            break


def _taken(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    taken = constructor_parameters(cls)
    return {name: value for name, value in given.items() if name in taken}


def shard_arguments(cls: type) -> dict[str, int]:
    """Return the rank and the size of every group over which a class of pools splits its layers."""
    taken = constructor_parameters(cls)
    groups = sorted(name.removesuffix("_rank") for name in taken if name.endswith("_rank"))
    groups = [group for group in groups if f"{group}_size" in taken]
    return {
        name: value
        for group in groups
        for name, value in ((f"{group}_rank", _SHARD_RANK), (f"{group}_size", _SHARD_RANK + 1))
    }


def component_names(*, is_windowed: bool, has_states: bool) -> tuple[str, ...]:
    """Return the names of the parts of a unified tree over some pools."""
    is_part = {"FULL": True, "SWA": is_windowed, "MAMBA": has_states}
    return tuple(name for name, is_there in is_part.items() if is_there)


def tensor_bytes(pools: SglangDevicePools) -> int:
    """Return the bytes of all buffers of all pools, each storage once."""
    storages = {
        buffer.tensor.untyped_storage().data_ptr(): buffer.tensor.untyped_storage().nbytes()
        for pool in pools.pools.values()
        for buffer in buffers_of(pool)
    }
    return sum(storages.values())
