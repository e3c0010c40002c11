"""The walls between a wrong wiring and a running stack, and the one switch that opens them.

An experiment needs to see what happens behind a wall: the silent corruption of the ``kernel``
backend, for one. Nothing but tests and the mutation campaign should open them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_enabled: ContextVar[bool] = ContextVar("assembly_walls_standing", default=True)


def validation_enabled() -> bool:
    """Return whether assembly checks are enforced in this context."""
    return _enabled.get()


@contextmanager
def without_walls() -> Iterator[None]:
    """Switch the assembly checks off for the duration of the block, in this context only."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)
