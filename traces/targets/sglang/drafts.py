"""Draft pools of speculative decoding, registered as the release itself registers them."""

from types import SimpleNamespace
from typing import Any

from traces.targets.sglang.device_pools import DevicePoolBuilder, SglangDevicePools
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.product_rows import OWN_POOL, STATEFUL_POOL
from traces.targets.sglang.rank_context import RankContext
from traces.targets.sglang.scenarios import NO_DRAFT, PACKED_DRAFT, SIDECAR_DRAFT
from traces.targets.sglang.signature_caller import SignatureCaller

_BUILDER = "sglang.srt.mem_cache.kv_cache_builder"
_WORKER = "sglang.srt.speculative.base_spec_worker"
_SCHEDULER = "sglang.srt.managers.scheduler"
_PACKED_DEPTH = 2


def draft_pools(
    kind: str, builder: DevicePoolBuilder, pools: SglangDevicePools, *, pool: str
) -> tuple[Any, ...]:
    """Build the device pools of a draft: one, or one for each of two packed heads.

    ``pool`` is the kind of draft pool, or the family of another one.
    """
    if kind == NO_DRAFT:
        return ()
    count = _PACKED_DEPTH if kind == PACKED_DRAFT else 1
    return tuple(builder.draft(pools, kind=pool) for _ in range(count))


def draft_states(
    kind: str, builder: DevicePoolBuilder, pools: SglangDevicePools, *, pool: str
) -> tuple[Any, ...]:
    """Build the states of the packed heads, in order of depth; none where they share the target's.

    ``pool`` is as in :func:`draft_pools`; a pool of another kind has no states beside it.

    Raises:
        UnsupportedByRelease: the release keeps no such state.
    """
    has_states = kind == PACKED_DRAFT and pool in (OWN_POOL, STATEFUL_POOL)
    count = _PACKED_DEPTH if has_states else 0
    states = (builder.draft_states(pools, kind=pool) for _ in range(count))
    return tuple(own for own in states if own is not None)


def prepare_staging(
    caller: SignatureCaller, kind: str, kvcache: object, drafts: tuple[Any, ...]
) -> None:
    """Have the release make the buffers that backups go through, as servers do before the stack.

    Nothing where a release makes them with its host pools alone.
    """
    prepare = find_part(_BUILDER, "prepare_hicache_staging")
    if prepare is None:
        return
    packed = drafts if kind == PACKED_DRAFT else ()
    runner = SimpleNamespace(token_to_kv_pool=kvcache, mtp_draft_device_pools=packed)
    sidecars = drafts if kind == SIDECAR_DRAFT else ()
    given = {
        "tp_worker": SimpleNamespace(model_runner=runner),
        "draft_plan": _sidecar_plan(sidecars) if sidecars else None,
    }
    caller.call(prepare, given)


def _sidecar_plan(drafts: tuple[Any, ...]) -> Any | None:  # noqa: ANN401 - of the release
    plan, mode = find_part(_WORKER, "HiCacheDraftPlan"), find_part(_WORKER, "HiCacheDraftMode")
    if plan is None or mode is None:
        return None
    return plan(mode=mode.SIDECAR, device_pools=drafts)


def register_sidecar_draft(
    caller: SignatureCaller, context: RankContext, *, cache: object, pool: object, page_size: int
) -> None:
    """Register a draft pool beside a stack through the release's own function.

    Raises:
        UnsupportedByRelease: the release has no such function.
    """
    register = find_part(_BUILDER, "maybe_register_hicache_draft")
    runner = SimpleNamespace(token_to_kv_pool=pool, model_config=None)
    given = {
        "tree_cache": cache,
        "server_args": context.server_args,
        "page_size": page_size,
        "enable_hierarchical_cache": True,
        "draft_worker": SimpleNamespace(
            draft_worker=SimpleNamespace(draft_runner=runner, draft_runner_list=[runner]),
            model_runner=runner,
            model_config=None,
        ),
        "spec_algorithm": SimpleNamespace(is_ngram=lambda: False, supports_spec_v2=lambda: True),
    }
    if register is None:
        _register_with_scheduler(given, pool)
        return
    plan = _sidecar_plan((pool,))
    caller.call(register, given if plan is None else {**given, "draft_plan": plan})


def _register_with_scheduler(given: dict[str, Any], pool: object) -> None:
    """Call the scheduler's method on an object with the attributes that it reads."""
    scheduler = find_part(_SCHEDULER, "Scheduler")
    register = getattr(scheduler, "_maybe_register_hicache_draft", None)
    if register is None:
        raise UnsupportedByRelease("no function registers a draft")
    names = ("tree_cache", "server_args", "page_size", "enable_hierarchical_cache")
    scheduler_state = SimpleNamespace(
        **{name: given[name] for name in names},
        draft_worker=given["draft_worker"],
        spec_algorithm=given["spec_algorithm"],
        _get_draft_kv_pool=lambda: (pool, None),
    )
    register(scheduler_state)
