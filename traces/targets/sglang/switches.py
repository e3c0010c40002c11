"""Switches of a release: the boolean environment variables that it declares.

Source: sglang 0.5.23 ``environ.py``; releases since 0.5.10 have the same classes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

from traces.targets.sglang.discovery import PACKAGE


@contextmanager
def noted_switches() -> Iterator[set[str]]:
    """Yield a set that receives the name of every switch that the release reads in the block."""
    kind = _environment().EnvBool
    read = kind.get
    names: set[str] = set()

    def noting(switch: Any) -> bool:  # noqa: ANN401 - the release's own class
        names.add(switch.name)
        return bool(read(switch))

    # A class that inherits the method has none of its own to go back to.
    with patch.object(kind, "get", noting):
        yield names


def switched(name: str) -> AbstractContextManager[None]:
    """Return a context in which a switch has its other value."""
    switch = getattr(_environment().envs, name)
    block: AbstractContextManager[None] = switch.override(not switch.get())
    return block


def _environment() -> Any:  # noqa: ANN401 - a module of the release
    return import_module(f"{PACKAGE}.srt.environ")
