"""Models of the native target, and the traits of their families of pools."""

from traces.targets.common.models import SHARED_MODELS, ModelShape, PoolFamily
from traces.targets.common.scenario import LAYOUTS
from traces.targets.native.entries import ENTRIES
from traces.targets.native.family import FamilyTraits

FAMILIES: dict[PoolFamily, FamilyTraits] = {
    PoolFamily.MHA: FamilyTraits(draft=PoolFamily.MHA, layouts=LAYOUTS),
    PoolFamily.MLA: FamilyTraits(draft=PoolFamily.MLA),
    PoolFamily.PACKED_MLA: FamilyTraits(),
    PoolFamily.NSA: FamilyTraits(draft=PoolFamily.PACKED_MLA, page_sizes=(64,)),
    PoolFamily.SWA: FamilyTraits(),
    PoolFamily.LINEAR: FamilyTraits(is_sharded=True),
    **{family: entry.traits for family, entry in ENTRIES.items()},
}

MODELS: dict[str, ModelShape] = {
    **SHARED_MODELS,
    **{entry.model_name: entry.model for entry in ENTRIES.values()},
}
