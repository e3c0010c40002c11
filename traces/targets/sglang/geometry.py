"""Sizes of a scenario's pools on one rank, and of its draft's."""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from traces.targets.common.geometry import RankGeometry
from traces.targets.sglang.families import FAMILIES, FAMILY_OF, SglangFamily
from traces.targets.sglang.models import MODELS
from traces.targets.sglang.scenarios import GROUPS, SglangScenario

PAGES = 8
SLOTS_WITHOUT_PAGES = 48
PAGES_WHEN_LONG = 6
# Window slots for each full slot: two requests fit that each outgrow a window of more than a page.
SWA_SHARE = Fraction(7, 8)
WINDOW = 128
# Tokens of a window that is shorter than any sequence, where a page is one token.
_SHORT_WINDOW_MIN = 5
_QUANT_BLOCK = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SglangGeometry(RankGeometry):
    """Sizes of one scenario's pools on one rank, with decode context parallelism."""

    family: SglangFamily
    pool_class: str  # class of the device pool
    dcp_size: int  # ranks that share a page while decoding
    window: int  # tokens of a sliding window

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the KV rows."""
        dtype: torch.dtype = getattr(torch, self.model.attention.dtype)
        return dtype

    @property
    def packed_width(self) -> int | None:
        """Row bytes of the packed fp8 format; None for rows as wide as the model's."""
        attention = self.model.attention
        if not self.family.packs_fp8 or attention.dtype != "float8_e4m3fn":
            return None
        scales = attention.kv_lora_rank // _QUANT_BLOCK * 4
        return attention.kv_lora_rank + scales + attention.qk_rope_head_dim * 2

    @property
    def swa_size(self) -> int:
        """Slots of the sliding-window pool: a share of the full one, whole pages."""
        return int(self.size // self.page_size * SWA_SHARE) * self.page_size


def geometry_of(scenario: SglangScenario, *, pool_class: str = "") -> SglangGeometry:
    """Derive the sizes of a scenario's pools; their class may be another than the family's."""
    family = FAMILY_OF[scenario.model]
    model, shape = MODELS[scenario.model], GROUPS[scenario.groups]
    page_size = scenario.page_size
    pages = PAGES if page_size <= 64 else PAGES_WHEN_LONG
    # Sliding-window pools are numbered from zero whatever the stage.
    offset = 0 if model.swa_layers else shape.pp_rank * model.layer_span
    return SglangGeometry(
        model=model,
        family=family,
        pool_class=pool_class or family.pool_class,
        page_size=page_size,
        size=SLOTS_WITHOUT_PAGES if page_size == 1 else pages * page_size,
        start_layer=offset,
        kv_heads=max(1, model.attention.kv_heads // (shape.attn_tp_size or 1)),
        dcp_size=shape.dcp_size,
        window=_window(scenario),
    )


def _window(scenario: SglangScenario) -> int:
    """Return the tokens of a window; every other scenario has one that sequences outgrow."""
    is_short = (
        scenario.io_backend == "direct" and FAMILY_OF[scenario.model].constructor == "sliding"
    )
    page_size = scenario.page_size
    return max(_SHORT_WINDOW_MIN, page_size + page_size // 2) if is_short else WINDOW


def geometry_of_family(geometry: SglangGeometry, name: str) -> SglangGeometry:
    """Return the sizes with the rows of a family's first model, over the same slots."""
    family = FAMILIES[name]
    model = MODELS[family.models[0]]
    return replace(
        geometry,
        model=model,
        family=family,
        pool_class=family.pool_class,
        kv_heads=model.attention.kv_heads,
    )


def draft_geometry(
    geometry: SglangGeometry, *, has_states: bool = False, has_window: bool = False
) -> SglangGeometry:
    """Return the sizes of a draft pool of one layer: the target's rows, the slots of all ranks.

    With ``has_states``, and where windowed layers have states too, the draft's layer has both a
    state and attention: full attention, which is Inkling's default for every depth. With
    ``has_window`` it has windowed attention alone.
    """
    model = geometry.model
    geometry = replace(geometry, pool_class=geometry.family.pool_class)
    if has_window:
        model = replace(model, full_layers=(), swa_layers=(0,), state_layers=())
    elif has_states or (model.swa_layers and model.state_layers):
        model = replace(model, full_layers=(0,), swa_layers=(), state_layers=(0,))
    elif model.swa_layers:
        model = replace(model, full_layers=(), swa_layers=(0,), state_layers=())
    else:
        model = replace(model, full_layers=(0,), state_layers=())
    return replace(geometry, model=model, start_layer=0, size=geometry.size * geometry.dcp_size)
