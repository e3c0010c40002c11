"""Scenarios whose pages go to storage: trees with storage, and the backends of a release.

Of the scenarios with registered backends any two that differ in one part of the identity of a page
(model, dtype, layout, page size, rank, number of ranks, stage) are there, so that a part that a
key lacks shows. In some every size is another number, so that one in another's place shows.
"""

from typing import Any

from traces.targets.common.scenario import RankShape

_REGISTERED = "registered"
_UNIFIED = "attach_hybrid_pool_to_unified_cache"
_KERNEL = {"layout": "page_first", "io_backend": "kernel"}
_DIRECT = {"layout": "page_first_direct", "io_backend": "direct"}
_LAYER_FIRST = {"layout": "layer_first", "io_backend": "kernel"}


def _ranks() -> dict[str, RankShape]:
    tp2 = {"tp_size": 2, "attn_cp_size": 0, "attn_tp_size": 2}
    cp2 = {"tp_size": 2, "attn_cp_size": 2, "attn_tp_size": 1}
    # Every rank and every size is another number.
    every = {"attn_cp_size": 2, "pp_rank": 2, "pp_size": 3}
    dcp2 = {"tp_size": 8, "attn_cp_size": 0, "attn_tp_size": 8, "dcp_size": 2}
    return {
        "tp2r0": RankShape(**tp2, tp_rank=0),
        "tp2r1": RankShape(**tp2, tp_rank=1),
        "tp4r1": RankShape(tp_size=4, attn_cp_size=0, attn_tp_size=4, tp_rank=1),
        "tp2pp2r0": RankShape(**tp2, tp_rank=0, pp_rank=0, pp_size=2),
        "tp2pp2r0s1": RankShape(**tp2, tp_rank=0, pp_rank=1, pp_size=2),
        "cp2r0": RankShape(**cp2, tp_rank=0),
        "cp2r1": RankShape(**cp2, tp_rank=1),
        "tp8dcp2r0": RankShape(**dcp2, tp_rank=0),
        "tp8dcp2r1": RankShape(**dcp2, tp_rank=1),
        "tp8r0": RankShape(tp_size=8, attn_cp_size=0, attn_tp_size=8, tp_rank=0),
        "tp8r1": RankShape(tp_size=8, attn_cp_size=0, attn_tp_size=8, tp_rank=1),
        "tp8cp2pp3r7s2": RankShape(**every, tp_size=8, attn_tp_size=4, tp_rank=7),
        "tp16cp2dcp4pp3r3s2": RankShape(**every, tp_size=16, attn_tp_size=8, dcp_size=4, tp_rank=3),
    }


STORAGE_RANKS = _ranks()
"""Ranks of which any two neighbours differ in one group, and two whose groups all differ."""


def storage_rows() -> list[dict[str, Any]]:
    """Return the rows, axes by name."""
    return [*_sharded(), *_replicated(), *_with_sidecars(), *_trees()]


def _row(builder: str, model: str, groups: str, **axes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "builder": builder,
        "model": model,
        "groups": groups,
        "write_policy": "write_through",
        "page_size": 16,
        "sizing": "ratio",
        "draft": "none",
        "storage_backend": _REGISTERED,
        **_KERNEL,
        **axes,
    }


def _sharded() -> list[dict[str, Any]]:
    """Return rows of heads: every rank has its own."""
    builder, model = "build_kv_only_stack", "llama3_8b"
    ranks = ("tp2r0", "tp2r1", "tp4r1", "tp2pp2r0", "tp2pp2r0s1", "cp2r0", "cp2r1")
    return [
        *(_row(builder, model, groups) for groups in (*ranks, "tp8cp2pp3r7s2")),
        _row(builder, "llama3_8b_fp8", "tp2r0"),
        _row(builder, model, "tp2r0", **_LAYER_FIRST),
        _row(builder, model, "tp2r0", **_DIRECT),
    ]


def _replicated() -> list[dict[str, Any]]:
    """Return latent rows: all ranks of a stage have the same, one of them stores them."""
    builder, model = "build_kv_only_stack", "dsv3"
    return [
        *(_row(builder, model, groups) for groups in ("tp2r0", "tp2r1", "tp2pp2r0", "tp2pp2r0s1")),
        _row(builder, "dsv32_kv_fp8", "tp2r0"),
        *(
            _row(_UNIFIED, model, groups, page_size=64)
            for groups in ("tp8dcp2r0", "tp8dcp2r1", "tp16cp2dcp4pp3r3s2")
        ),
    ]


def _with_sidecars() -> list[dict[str, Any]]:
    """Return stacks of several host pools, anchors without a buffer included."""
    return [
        _row(_UNIFIED, "dsv32_bf16", "tp2r0", page_size=64),
        *(_row(_UNIFIED, "dsv32_fp8", groups, page_size=64) for groups in ("tp2r0", "tp2pp2r0s1")),
        *(
            _row("build_hybrid_mamba_stack", "kimi_linear", groups)
            for groups in ("tp8r0", "tp8r1", "tp8cp2pp3r7s2")
        ),
        _row("build_hybrid_swa_stack", "gpt_oss", "tp2r0"),
        _row("build_hybrid_mamba_swa_stack", "inkling", "tp8r0"),
        _row("build_deepseek_v4_hicache_stack", "dsv4_flash", "tp2r0", page_size=256),
        _row("build_minimax_sparse_hicache_stack", "minimax_m3", "tp2r0"),
    ]


def _trees() -> list[dict[str, Any]]:
    """Return trees that open the scenario's own backend."""
    own: dict[str, Any] = {"storage_backend": "dynamic"}
    back: dict[str, Any] = {"write_policy": "write_back", **own}
    buffered: dict[str, Any] = {"host_memory": "buffer_only", **own}
    unified = "UnifiedRadixCache.init_hicache"
    return [
        _row("HiRadixCache", "llama3_8b", "tp8cp2", **own),
        _row("HiRadixCache", "dsv32_fp8", "tp1", **{**back, "page_size": 64}),
        _row("HiMambaRadixCache", "nemotron_h", "tp8cp2", **own),
        _row(unified, "llama3_8b", "tp8cp2", **own),
        _row(unified, "llama3_8b", "tp1", **{**back, **_DIRECT}),
        _row(unified, "dsv32_fp8", "tp1", **{**own, "page_size": 64}),
        _row(unified, "gpt_oss", "tp8cp2", **own),
        _row(unified, "nemotron_h", "tp8cp2", **own),
        # Index keys that are cut to what every rank fetched; the first rank stores latent rows.
        *(
            _row(builder, "dsv32_fp8", "tp2r0", **{**own, "page_size": 64})
            for builder in ("HiRadixCache", unified)
        ),
        # The other tree core of a release that has two.
        _row(unified, "gpt_oss", "tp8cp2", **{**own, **_DIRECT}),
        _row(unified, "nemotron_h", "tp8cp2", **{**own, **_DIRECT}),
        # Host memory is a buffer between device and storage.
        *(
            _row(unified, model, groups, **{**buffered, "page_size": page})
            for model, groups, page in (
                ("gpt_oss", "tp8cp2", 128),
                ("nemotron_h", "tp8cp2", 16),
                ("dsv32_fp8", "tp1", 64),
                # The first stage tells the others what to fetch.
                ("gpt_oss", "tp2pp2r0", 128),
            )
        ),
        _row(unified, "gpt_oss", "tp8cp2", **{**buffered, "page_size": 128, "draft": "sidecar"}),
        # Beside a draft the units of a tree are pairs of tokens.
        _row(unified, "llama3_8b", "tp8cp2", **{**own, "draft": "packed"}),
    ]
