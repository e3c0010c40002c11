"""Scenarios of HiSparse: attention reads a few rows of each request, and the host has all of them.

Nothing here imports torch or sglang.
"""

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from traces.targets.common.geometry import RankGeometry
from traces.targets.sglang.families import FAMILY_OF
from traces.targets.sglang.scenarios import HISPARSE, NO_DRAFT, SglangScenario

TOP_K, HOST_ROWS = 48, 3
"""Tokens that attention asks for, and rows of the host for each one of the device."""
# Latent rows with scales on the first pipeline stage, and without them on a later one, whose first
# layer is not layer 0; and rows of keys and values.
_ROWS = (("dsv32_fp8", "tp8cp2"), ("dsv32_bf16", "tp8cp2pp3"), ("minimax_m3", "tp8cp2"))


def coordinator_sizes(geometry: RankGeometry) -> dict[str, Any]:
    """Return the sizes that a coordinator is constructed with, by parameter."""
    return {
        "top_k": TOP_K,
        "device_buffer_size": 64,  # slots of a request
        "host_to_device_ratio": HOST_ROWS,
        "swap_in_block_size": 320,
        "shared_index_layers": _shared_index_layers(geometry),
    }


def _shared_index_layers(geometry: RankGeometry) -> list[bool] | None:
    """Return which layers reuse the tokens that the layer before them asks for; None for none.

    A server has such layers of latent rows on one pipeline stage alone.
    """
    is_latent = not geometry.model.attention.kv_heads
    if geometry.start_layer or not is_latent:
        return None
    return [bool(layer % 2) for layer in range(len(geometry.model.full_layers))]


@dataclass(frozen=True, slots=True, kw_only=True)
class HisparseScenario(SglangScenario):
    """Requests of one server whose device pool holds a part of their rows."""

    has_stack: bool = False

    @property
    def pool_class(self) -> str:
        """Class of the device pool in place of the family's; empty for that one."""
        return "HiSparseDSATokenToKVPool" if FAMILY_OF[self.model].packs_fp8 else ""

    @property
    def pool_arguments(self) -> dict[str, Any]:
        """Further arguments of the constructor of the family's pool."""
        return (
            {} if self.pool_class else {"enable_hisparse": True, "host_to_device_ratio": HOST_ROWS}
        )

    @property
    @override
    def has_traffic(self) -> bool:
        return False


def hisparse_scenarios() -> list[HisparseScenario]:
    """Return a scenario for each width of rows and pipeline stage."""
    return [
        HisparseScenario(
            builder=HISPARSE,
            model=model,
            layout="layer_first",
            io_backend="kernel",
            write_policy="write_through",
            page_size=64,
            sizing="ratio",
            storage_backend=None,
            groups=groups,
            draft=NO_DRAFT,
        )
        for model, groups in _ROWS
    ]
