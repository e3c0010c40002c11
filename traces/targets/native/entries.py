"""Discovery of the families that have a module of their own in ``families``."""

import importlib
import pkgutil

from traces.targets.common.models import PoolFamily
from traces.targets.native import families
from traces.targets.native.family import FamilyEntry


def _entries() -> dict[PoolFamily, FamilyEntry]:
    """Return the ``ENTRY`` of every module in ``families``, by family."""
    names = sorted(info.name for info in pkgutil.iter_modules(families.__path__))
    modules = [importlib.import_module(f"{families.__name__}.{name}") for name in names]
    entries: list[FamilyEntry] = [module.ENTRY for module in modules]
    return {entry.model.family: entry for entry in entries}


ENTRIES = _entries()
