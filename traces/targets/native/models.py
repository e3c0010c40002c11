"""Models and pool families of the native target, as the entries in ``families`` declare them."""

import importlib
import pkgutil

from traces.targets.common.models import SHARED_MODELS, ModelShape
from traces.targets.native import families
from traces.targets.native.family import FamilyEntry


def _entries() -> dict[str, FamilyEntry]:
    """Return the ``ENTRY`` of every module in ``families``, by name of the module."""
    names = sorted(info.name for info in pkgutil.iter_modules(families.__path__))
    return {name: importlib.import_module(f"{families.__name__}.{name}").ENTRY for name in names}


FAMILIES = _entries()

FAMILY_OF: dict[str, FamilyEntry] = {
    model: entry for entry in FAMILIES.values() for model in entry.models
}
"""Families by model."""

MODELS: dict[str, ModelShape] = {
    **SHARED_MODELS,
    **{name: model for entry in FAMILIES.values() for name, model in entry.models.items()},
}


def known_findings() -> dict[str, str]:
    """Return the reasons of known findings that the families declare, by key of the finding."""
    return {
        key: reason for entry in FAMILIES.values() for key, reason in entry.known_findings.items()
    }
