"""Models of the native target, and their families of pools, with or without an own module."""

import importlib
import pkgutil

from traces.targets.common.models import SHARED_MODELS, ModelShape, PoolFamily
from traces.targets.common.scenario import LAYOUTS
from traces.targets.native import families
from traces.targets.native.family import FamilyEntry, FamilyTraits


def _entries() -> dict[PoolFamily, FamilyEntry]:
    """Return the ``ENTRY`` of every module in ``families``, by family."""
    names = sorted(info.name for info in pkgutil.iter_modules(families.__path__))
    modules = [importlib.import_module(f"{families.__name__}.{name}") for name in names]
    entries: list[FamilyEntry] = [module.ENTRY for module in modules]
    return {entry.model.family: entry for entry in entries}


ENTRIES = _entries()

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
