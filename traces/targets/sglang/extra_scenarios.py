"""Scenarios beside the covering array, for combinations that pairs of axes do not cover."""

from typing import Any

_UNIFIED = "attach_hybrid_pool_to_unified_cache"
_KERNEL = {"layout": "page_first", "io_backend": "kernel"}
_DIRECT = {"layout": "page_first_direct", "io_backend": "direct"}
_PLAIN = {"sizing": "ratio", "storage_backend": None}


def extra_rows() -> list[dict[str, Any]]:
    """Return the rows, axes by name."""
    return [
        *_drafts_with_states(),
        *_drafts_with_index_keys(),
        *_with_side_states(),
        *_with_storage(),
        *_non_default_arguments(),
    ]


def _drafts_with_states() -> list[dict[str, Any]]:
    """Return packed drafts that have states of their own: under a builder and under a tree."""
    shared = {"model": "inkling", "draft": "packed", **_PLAIN}
    late = {"page_size": 64, "write_policy": "write_back", "groups": "tp8cp2pp3"}
    soon = {"page_size": 16, "write_policy": "write_through", "groups": "tp8cp2"}
    return [
        {"builder": "build_hybrid_mamba_swa_stack", **shared, **_KERNEL, **late},
        {"builder": _UNIFIED, **shared, **_DIRECT, **soon},
    ]


def _drafts_with_index_keys() -> list[dict[str, Any]]:
    """Return a packed draft beside index keys: their buffers come from the pools of both."""
    return [
        {"builder": _UNIFIED, "model": "dsv32_fp8", "draft": "packed", "page_size": 64}
        | {"write_policy": "write_through", "groups": "tp8cp2", **_PLAIN, **_KERNEL}
    ]


def _with_side_states() -> list[dict[str, Any]]:
    """Return states with more registered beside them: under a builder and under a tree."""
    shared = {"model": "qwen4_ple", "draft": "none", "page_size": 16, **_PLAIN}
    return [
        {"builder": "build_hybrid_mamba_stack", "write_policy": "write_back", "groups": "tp8cp2pp3"}
        | {**shared, **_KERNEL},
        {"builder": _UNIFIED, "write_policy": "write_through", "groups": "tp8cp2"}
        | {**shared, **_DIRECT},
    ]


def _with_storage() -> list[dict[str, Any]]:
    """Return pools that every rank stores, that the first one stores, and both in one stack."""
    shared: dict[str, Any] = {"storage_backend": "dynamic", "draft": "none"}
    shared |= {"sizing": "ratio", "write_policy": "write_through_selective", "page_size": 16}
    kernel = {**shared, "layout": "layer_first", "io_backend": "kernel"}
    every_rank, first_rank = {"groups": "tp8cp2"}, {"groups": "tp1"}
    index_keys: dict[str, Any] = {"model": "dsv32_bf16", "page_size": 64}
    return [
        {"builder": "build_kv_only_stack", "model": "llama3_8b", **kernel, **every_rank},
        {"builder": "build_kv_only_stack", "model": "dsv3", **kernel, **first_rank},
        {"builder": "build_anchor_sidecar_stack", **kernel, **index_keys, **first_rank},
        {"builder": "build_hybrid_mamba_stack", "model": "kimi_linear"}
        | {**shared, **_DIRECT, **every_rank},
        {"builder": "DecodeKVCacheOffloadManager", "model": "llama3_8b", **kernel, **every_rank},
        {"builder": "DecodeKVCacheOffloadManager", "model": "dsv3", **kernel, **first_rank},
    ]


def _non_default_arguments() -> list[dict[str, Any]]:
    """Return rows in which an argument of a call differs from its default.

    In the rows of the array these calls get their defaults in the releases that support them:
    windows on a later pipeline stage, a draft beside rows that need no other pools, another policy
    for compressed rows.
    """
    stage = {"page_size": 1, "write_policy": "write_through", "groups": "tp4cp4pp5"}
    draft = {"page_size": 16, "write_policy": "write_through", "groups": "tp8cp2"}
    policy = {"page_size": 256, "write_policy": "write_back", "groups": "tp8cp2"}
    return [
        {"builder": _UNIFIED, "model": "gpt_oss", "draft": "none", **_PLAIN, **_KERNEL, **stage},
        {"builder": "HiRadixCache", "model": "llama3_8b", "draft": "sidecar", **_PLAIN, **_KERNEL}
        | draft,
        {"builder": "build_deepseek_v4_hicache_stack", "model": "dsv4_flash_odd", "draft": "none"}
        | {**_PLAIN, **_DIRECT, **policy},
    ]
