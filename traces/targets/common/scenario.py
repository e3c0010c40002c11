"""Scenarios: one named configuration of a stack on one rank, and the values of its axes.

Nothing here imports torch or a target, so that listing scenarios is instant.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

LAYOUTS = ("layer_first", "page_first", "page_first_direct", "page_head")
IO_BACKENDS = ("kernel", "direct")
WRITE_POLICIES = {"write_through_selective": "wts", "write_back": "wb", "write_through": "wt"}
"""Write policies in the order in which covering arrays prefer them, with their short names."""
SIZINGS = ("ratio", "gb")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShape:
    """Process groups and pipeline stage of the rank that runs a scenario.

    Attributes:
        tp_size: ranks in the tensor-parallel group.
        attn_cp_size: ranks in the attention context-parallel group; 0 for no group.
        attn_tp_size: ranks in the attention tensor-parallel group; 0 for no group.
        pp_rank: pipeline stage of this rank.
        pp_size: number of pipeline stages.
        dcp_size: ranks over which the tokens of a page are spread while decoding; 1 for none.
        tp_rank: rank in the tensor-parallel group; None leaves it to the target.
    """

    tp_size: int
    attn_cp_size: int
    attn_tp_size: int
    pp_rank: int = 0
    pp_size: int = 1
    dcp_size: int = 1
    tp_rank: int | None = None


# All but the first have ranks, sizes and stages that no default has.
RANK_SHAPES: dict[str, RankShape] = {
    "tp1": RankShape(tp_size=1, attn_cp_size=0, attn_tp_size=0),
    "tp8pp2": RankShape(tp_size=8, attn_cp_size=0, attn_tp_size=8, pp_rank=1, pp_size=2),
    "tp8cp2": RankShape(tp_size=8, attn_cp_size=2, attn_tp_size=4),
    "tp8cp2pp3": RankShape(tp_size=8, attn_cp_size=2, attn_tp_size=4, pp_rank=1, pp_size=3),
    "tp4cp4pp5": RankShape(tp_size=4, attn_cp_size=4, attn_tp_size=0, pp_rank=3, pp_size=5),
    "tp4cp2": RankShape(tp_size=4, attn_cp_size=2, attn_tp_size=2),
    "pp2s0": RankShape(tp_size=1, attn_cp_size=0, attn_tp_size=0, pp_rank=0, pp_size=2),
    "pp2s1": RankShape(tp_size=1, attn_cp_size=0, attn_tp_size=0, pp_rank=1, pp_size=2),
    "tp2pp2s0": RankShape(tp_size=2, attn_cp_size=0, attn_tp_size=2, pp_rank=0, pp_size=2),
    "tp2pp2s1": RankShape(tp_size=2, attn_cp_size=0, attn_tp_size=2, pp_rank=1, pp_size=2),
    "tp8dcp2": RankShape(tp_size=8, attn_cp_size=0, attn_tp_size=8, dcp_size=2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario(ABC):
    """One named configuration of a stack; each target adds the axis of its draft pools.

    Attributes:
        builder: stack builder or entry point under test.
        model: key of the target's ``MODELS``.
        write_policy: controller's write policy, key of ``WRITE_POLICIES``.
        page_size: tokens a page.
        sizing: host pool size by ``ratio`` or by ``gb``.
        groups: key of ``RANK_SHAPES``.
    """

    builder: str
    model: str
    layout: str
    io_backend: str
    write_policy: str
    page_size: int
    sizing: str
    storage_backend: str | None
    groups: str

    @property
    @abstractmethod
    def short_name(self) -> str:
        """Short name of the builder, the first part of the scenario's name."""

    @property
    @abstractmethod
    def draft_name(self) -> str:
        """Last part of the scenario's name; empty without draft pools."""

    @property
    def host_memory_name(self) -> str:
        """Part of the scenario's name where host memory is no tier; empty where it is one."""
        return ""

    @property
    def has_traffic(self) -> bool:
        """True where random traffic may run on the scenario."""
        return True

    @property
    def is_served(self) -> bool:
        """True where a server of the target makes such pools: a fault of others is not its own."""
        return True

    @property
    def name(self) -> str:
        """File name of the golden: every axis that the builder's name does not imply."""
        parts = [
            self.short_name,
            self.model,
            self.layout,
            self.io_backend,
            WRITE_POLICIES[self.write_policy],
            f"p{self.page_size}",
            self.sizing,
            self.groups,
            self.storage_backend or "",
            self.host_memory_name,
            self.draft_name,
        ]
        return ".".join(part for part in parts if part)

    @property
    def config(self) -> dict[str, Any]:
        """Every axis with its value, in order of declaration."""
        return asdict(self)
