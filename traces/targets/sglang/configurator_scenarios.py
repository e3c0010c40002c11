"""Scenarios in which a release makes its device pools itself, from the flags of a server."""

from collections.abc import Iterator

from traces.targets.common.covering import Row
from traces.targets.sglang.scenarios import (
    AXES,
    NO_DRAFT,
    POOL_CONFIGURATOR,
    PoolScenario,
    allowed_values,
)

# One model for each way of making pools.
_CONFIGURED = (
    *("llama3_8b", "dsv3_mha", "dsv3", "dsv32_fp8", "gpt_oss", "qwen3_next", "nemotron_h"),
    *("kimi_linear", "glm53_flash", "inkling", "minimax_m3", "qwen4_qsa", "dsv4_flash"),
    "llama3_mxfp8",
)


def configurator_scenarios() -> list[PoolScenario]:
    """Return the scenarios in which the release itself makes its device pools."""
    return [PoolScenario(**row) for row in _configurator_rows()]


def _configurator_rows() -> Iterator[Row]:
    """Yield a row for each kind of pool: as a release makes them, on a later stage."""
    for model in _CONFIGURED:
        allowed = allowed_values(model)
        groups = [name for name in ("tp8cp2pp3", "tp8cp2") if name in allowed["groups"]]
        yield {
            "builder": POOL_CONFIGURATOR,
            "model": model,
            "layout": allowed["layout"][0],
            "io_backend": "kernel",
            "write_policy": AXES["write_policy"][0],
            "page_size": allowed["page_size"][0],
            "sizing": "ratio",
            "storage_backend": None,
            "groups": groups[0],
            "draft": NO_DRAFT,
        }
