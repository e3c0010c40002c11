"""Lookup of parts of the installed release by any of the names they ever had."""

import importlib
from functools import cache
from typing import Any

from traces.targets.sglang.aliases import aliases
from traces.targets.sglang.discovery import SglangRelease, discover_release
from traces.targets.sglang.errors import UnsupportedByRelease


@cache
def installed_release() -> SglangRelease:
    """Return the installed release; its modules are imported once."""
    return discover_release()


def find_class(name: str) -> Any:  # noqa: ANN401 - a class of the release
    """Return a class by its canonical name.

    Raises:
        UnsupportedByRelease: the release has none.
    """
    found = installed_release().find(*all_names_of(name))
    if found is None:
        raise UnsupportedByRelease(f"no class {name}")
    return found


def find_builder(name: str) -> Any:  # noqa: ANN401 - a function of the release
    """Return a stack builder or attach function by its canonical name.

    Raises:
        UnsupportedByRelease: the release has no assembler module, or not this function.
    """
    functions = installed_release().builder_functions()
    if not functions:
        raise UnsupportedByRelease("no assembler module")
    for alias in all_names_of(name):
        if alias in functions:
            return functions[alias]
    raise UnsupportedByRelease(f"no function {name}")


def find_part(module: str, name: str) -> Any | None:  # noqa: ANN401 - anything of the release
    """Return a member of a module that a release may lack; None without module or member.

    Raises:
        ImportError: the module is there and something it imports is not.
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            return None
        raise
    return getattr(found, name, None)


def all_names_of(newest: str) -> tuple[str, ...]:
    """Return every name that something ever had, the newest first."""
    older = (old for old, new in aliases().callees.items() if new == newest)
    return (newest, *older)
