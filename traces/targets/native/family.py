"""Pool families of the native target: their traits, and what an entry of one holds.

Nothing here imports torch or a target, so that listing scenarios is instant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from traces.targets.common.covering import Row
from traces.targets.common.geometry import RankGeometry
from traces.targets.common.models import ModelShape, PoolFamily
from traces.targets.common.scenario import LAYOUTS

if TYPE_CHECKING:
    import torch

    from assembler.device.base import Device
    from assembler.device_pools.base import TokenKVPool

AXES_OF_A_ROW = (
    *("builder", "layout", "io_backend", "write_policy", "page_size"),
    *("sizing", "storage_backend", "groups", "draft"),
)


class TokenPoolArguments(TypedDict):
    """Arguments that the constructor of every token pool takes under the same name."""

    size: int
    page_size: int
    dtype: "torch.dtype"
    layer_num: int
    start_layer: int
    end_layer: int
    device: "Device"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyTraits:
    """Axis values that the device pools of one family can have.

    Attributes:
        draft: family of the draft model's pool; None where scenarios have no draft.
        is_sharded: whether row shapes are those of one of several ranks.
    """

    draft: PoolFamily | None = None
    layouts: tuple[str, ...] = LAYOUTS[:3]
    page_sizes: tuple[int, ...] = (16, 64, 1)
    is_sharded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEntry:
    """A family with a model and scenarios of its own, beside the covering array.

    Attributes:
        model_name: key of the model.
        rows: values of ``AXES_OF_A_ROW`` for each of its scenarios.
        make_pool: builds its device pool.
    """

    model_name: str
    model: ModelShape
    traits: FamilyTraits
    rows: tuple[tuple[Any, ...], ...]
    make_pool: "Callable[[RankGeometry, TokenPoolArguments], TokenKVPool]"

    def scenario_rows(self) -> list[Row]:
        """Return the axes of its scenarios."""
        model = {"model": self.model_name}
        return [model | dict(zip(AXES_OF_A_ROW, row, strict=True)) for row in self.rows]
