"""Models of the native target, and the combinations that their families of pools can have."""

from dataclasses import dataclass

from traces.targets.common.models import SHARED_MODELS, ModelShape, PoolFamily
from traces.targets.common.scenario import LAYOUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyTraits:
    """Axis values that the device pools of one family can have.

    Attributes:
        draft: family of the draft model's pool; None where scenarios have no draft.
        layouts: host layouts.
        page_sizes: tokens a page.
        is_sharded: whether row shapes are those of one of several ranks.
    """

    draft: PoolFamily | None = None
    layouts: tuple[str, ...] = LAYOUTS[:3]
    page_sizes: tuple[int, ...] = (16, 64, 1)
    is_sharded: bool = False


FAMILIES: dict[PoolFamily, FamilyTraits] = {
    PoolFamily.MHA: FamilyTraits(draft=PoolFamily.MHA, layouts=LAYOUTS),
    PoolFamily.MLA: FamilyTraits(draft=PoolFamily.MLA),
    PoolFamily.PACKED_MLA: FamilyTraits(),
    PoolFamily.NSA: FamilyTraits(draft=PoolFamily.PACKED_MLA, page_sizes=(64,)),
    PoolFamily.SWA: FamilyTraits(),
    PoolFamily.LINEAR: FamilyTraits(is_sharded=True),
}

MODELS: dict[str, ModelShape] = {**SHARED_MODELS}
