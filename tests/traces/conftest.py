"""A stack in miniature for everything that must not depend on the assembler."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FAKE = Path(__file__).parent / "fake"
sys.path.insert(0, str(FAKE))


@pytest.fixture
def tiny():
    from tinytarget import TinyTarget

    return TinyTarget()


@pytest.fixture(autouse=True)
def no_leaked_instrumentation() -> Iterator[None]:
    """A function that stays instrumented would be seen by every later test."""
    yield
    from traces.recording.instrument import still_instrumented

    assert still_instrumented() == ()
