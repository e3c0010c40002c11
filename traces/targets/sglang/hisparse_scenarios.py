"""Scenarios of HiSparse: attention reads a few rows of each request, and the host has all of them.

Nothing here imports torch or sglang.
"""

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from traces.targets.sglang.families import FAMILY_OF
from traces.targets.sglang.scenarios import HISPARSE, NO_DRAFT, SglangScenario

TOP_K, HOST_ROWS = 48, 3
"""Tokens that attention asks for, and rows of the host for each one of the device."""
COORDINATOR_SIZES = {
    "top_k": TOP_K,
    "device_buffer_size": 64,  # slots of a request
    "host_to_device_ratio": HOST_ROWS,
    "swap_in_block_size": 320,
}
# Latent rows with scales on the first pipeline stage, and without them on a later one, whose first
# layer is not layer 0; and rows of keys and values.
_ROWS = (("dsv32_fp8", "tp8cp2"), ("dsv32_bf16", "tp8cp2pp3"), ("minimax_m3", "tp8cp2"))


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
