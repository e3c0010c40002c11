"""Script of an assembly that must be refused; the builder's exception is part of the trace."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from assembler import (
    HybridCacheController,
    PoolName,
    build_kv_only_stack,
    build_shared_anchor_stack,
)
from assembler.errors import AssemblyError
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.stacks import build_kv_host_pool
from traces.schema.model import StepRecord
from traces.targets.common.labels import FoundRace
from traces.targets.common.models import mla_rows
from traces.targets.common.runtime import open_device
from traces.targets.native.builders import builder_inputs
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.family import FamilyEntry
from traces.targets.native.models import FAMILIES, FAMILY_OF
from traces.targets.native.pools import geometry_of
from traces.targets.native.scenarios import RefusalScenario

AnyPool: TypeAlias = Any
"""A device pool of any family."""
Mistake: TypeAlias = Callable[["RefusalScript"], object]
_LATENT: dict[str, Any] = {"family": FAMILIES["mla"], "attention": mla_rows("bfloat16")}


class RefusalScript:
    """Calls one builder with one mistake and expects it to raise AssemblyError."""

    steps = ("refuse",)

    def __init__(self, scenario: RefusalScenario, *, device: str) -> None:
        self._scenario = scenario
        self._device = open_device(device)
        self._geometry = geometry_of(scenario)

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Build the device pools and call the builder; yields nothing.

        Raises:
            NativeScenarioError: the builder accepted the mistake.
        """
        del step
        self._family = FAMILY_OF[self._scenario.model]
        pools = self._family.make_pools(self._geometry, self._device)
        self._plan = builder_inputs(self._scenario, self._geometry, pools)
        self._kv_pool: AnyPool = pools.kvcache
        try:
            MISTAKES[self._scenario.mistake](self)
        except AssemblyError:
            # The call's record holds type and message.
            yield from ()
        else:
            rule = "must be refused; expected AssemblyError, got a stack"
            raise NativeScenarioError(f"{self._scenario.mistake}: {rule}")

    def new_races(self) -> Iterator[FoundRace]:
        """Yield nothing: a stack that is refused moves no bytes."""
        yield from ()

    def build_kv_only(self, **changes: Any) -> HybridCacheController:  # noqa: ANN401
        """Build a stack of the KV rows alone; ``changes`` replace right arguments."""
        _, controller = build_kv_only_stack(**{**self._arguments(), **changes})
        return controller

    def build_shared_anchor(self, make_host: Callable[[HostKVCache], HostKVCache]) -> None:
        """Build a stack whose index keys lie in the host pool that ``make_host`` returns."""
        build_shared_anchor_stack(
            **self._arguments(),
            shared_pool_name=PoolName.INDEXER,
            shared_host_pool_factory=make_host,
        )

    def other_pool(self, *, family: FamilyEntry | None = None, **changes: Any) -> AnyPool:  # noqa: ANN401
        """Return the device pool of the scenario's model with ``changes``, or of another family."""
        model = replace(self._geometry.model, **changes)
        old_heads = self._geometry.model.attention.kv_heads
        heads = self._geometry.kv_heads * model.attention.kv_heads // max(1, old_heads)
        geometry = replace(self._geometry, kv_heads=heads, model=model)
        return (family or self._family).make_pools(geometry, self._device).kvcache

    def pool_of_rows(self, **attention: Any) -> AnyPool:  # noqa: ANN401
        """Return the device pool of a model with other attention rows."""
        return self.other_pool(attention=replace(self._geometry.model.attention, **attention))

    def pool_of_layers(self, layer_num: int) -> AnyPool:
        """Return the device pool of a model of another depth."""
        return self.other_pool(full_layers=tuple(range(layer_num)))

    def index_host(self, anchor: HostKVCache) -> HostKVCache:
        """Return the right host pool of the index keys."""
        return NSAIndexerPoolHost(
            device_pool=self._kv_pool,
            anchor_host=anchor,
            layout=self._plan.server_args.hicache_mem_layout,
            pin_memory=True,
            device=self._device,
            allocator_type=None,
        )

    def register_draft(
        self,
        pool: Any,  # noqa: ANN401
        *,
        mirrored: Any = None,  # noqa: ANN401
        page_size: int | None = None,
        size_share: float = 1,
    ) -> None:
        """Build a right stack, then register a draft pool with a host pool that may not fit.

        The host pool mirrors ``mirrored``, or the draft's own pool; ``size_share`` is its share of
        the anchor's slots.
        """
        controller = self.build_kv_only()
        ratio = controller.mem_pool_host.size / self._kv_pool.size * size_share
        source = pool if mirrored is None else mirrored
        width = getattr(source, "kv_cache_dim", None)
        host_pool = build_kv_host_pool(
            kv_pool=source,
            page_size=page_size or self._plan.params.page_size,
            server_args=replace(self._plan.server_args, hicache_ratio=ratio, hicache_size=0),
            use_mla=width is not None,
            override_kv_cache_dim=width,
        )
        controller.set_draft_kv_pool(pool, host_pool)

    def mapping(self, *indices: int) -> dict[int, int]:
        """Return a mapping from the stage's global layer ids to layer indices."""
        return {self._geometry.start_layer + at: index for at, index in enumerate(indices)}

    def _arguments(self) -> dict[str, Any]:
        width = getattr(self._kv_pool, "kv_cache_dim", None)
        return {
            "params": self._plan.params,
            "server_args": self._plan.server_args,
            "kv_pool": self._kv_pool,
            "full_layer_mapping": self.mapping(*range(len(self._geometry.model.full_layers))),
            "page_size": self._plan.params.page_size,
            "tp_group": self._plan.groups.tp,
            "load_cache_event": self._plan.load_cache_event,
            "storage_backend": None,
            "use_mla": width is not None,
            "override_kv_cache_dim": width,
        }


def _with_geometry(host: HostKVCache, **changes: Any) -> HostKVCache:  # noqa: ANN401
    """Let a host pool report another geometry than it has."""
    report = host.geometry
    host.geometry = lambda pool: replace(report(pool), **changes)  # type: ignore[method-assign]
    return host


def _with_other_pages(script: RefusalScript, anchor: HostKVCache) -> HostKVCache:
    host = script.index_host(anchor)
    anchor.page_size *= 2
    return host


MISTAKES: Mapping[str, Mistake] = {
    # The width that attach functions must pass on; see sglang #25022.
    "row_bytes": lambda script: script.build_kv_only(override_kv_cache_dim=None),
    "row_dtype": lambda script: script.build_kv_only(kv_pool=script.pool_of_rows(dtype="float16")),
    "row_shape": lambda script: script.build_kv_only(
        kv_pool=script.pool_of_rows(kv_heads=16, head_dim=64, v_head_dim=64)
    ),
    "planes": lambda script: script.build_kv_only(
        kv_pool=script.other_pool(**_LATENT), use_mla=True
    ),
    "layer_num": lambda script: script.build_kv_only(kv_pool=script.pool_of_layers(3)),
    "layer_unreached": lambda script: script.build_kv_only(
        full_layer_mapping={
            layer: index for layer, index in script.mapping(0, 1, 2, 3).items() if index != 1
        }
    ),
    "layer_loaded_twice": lambda script: script.build_kv_only(
        full_layer_mapping=script.mapping(0, 1, 2, 2)
    ),
    "missing_pool": lambda script: script.build_kv_only(),
    "surplus_pool": lambda script: script.build_shared_anchor(lambda anchor: anchor),
    "slots_per_row": lambda script: script.build_shared_anchor(
        lambda anchor: _with_geometry(script.index_host(anchor), slots_per_row=1)
    ),
    "page_size": lambda script: script.build_shared_anchor(
        lambda anchor: _with_other_pages(script, anchor)
    ),
    "draft_row_bytes": lambda script: script.register_draft(
        script.pool_of_rows(head_dim=64), mirrored=script.pool_of_layers(1)
    ),
    "draft_pages": lambda script: script.register_draft(script.pool_of_layers(1), page_size=32),
    "draft_slots": lambda script: script.register_draft(script.pool_of_layers(1), size_share=0.5),
    "draft_layers": lambda script: script.register_draft(script.pool_of_layers(5)),
    "draft_missing_pool": lambda script: script.register_draft(
        script.other_pool(family=FAMILIES["nsa"], index_head_dim=128),
        mirrored=script.other_pool(**_LATENT),
    ),
}
"""Calls with one mistake each, by the rule that must refuse it."""
