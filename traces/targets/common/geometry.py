"""Sizes of a scenario's pools on one rank, as far as every target has them."""

from dataclasses import dataclass

from traces.targets.common.models import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGeometry:
    """Sizes of one scenario's pools on one rank.

    Attributes:
        size: device slots of the (full) KV pool.
        start_layer: first global layer id of the stage.
        kv_heads: KV heads of this rank.
    """

    model: ModelShape
    page_size: int
    size: int
    start_layer: int
    kv_heads: int

    @property
    def end_layer(self) -> int:
        """Last global layer id of the stage, inclusive."""
        return self.start_layer + self.model.layer_span - 1

    def global_ids(self, stage_local: tuple[int, ...]) -> list[int]:
        """Return the global ids of stage-local layer ids."""
        return [self.start_layer + layer for layer in stage_local]
