"""Reads of a target's source: what a scenario learns from a text, rather than by running it.

A record of what a run reaches hears of each read by an audit event, also where the answer was
remembered: then the run depends on what it has learnt, and not on every line of the file.
"""

import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

FACT_READ = "goldentrace.fact_read"
"""Audit event with the name of a function of a text, the file, and the ``repr`` of its result."""
CODE_READ = "goldentrace.code_read"
"""Audit event with a code object."""
NAMES_READ = "goldentrace.names_read"
"""Audit event with names."""

_Fact = TypeVar("_Fact")


def read_fact(fact: Callable[[str], _Fact], file: Path) -> _Fact:
    """Return what a function of a module says about the text of a file.

    The function depends on the syntax tree of the text alone.

    Raises:
        SyntaxError: the file is no Python.
    """
    found: _Fact = _learn(fact, file)
    sys.audit(FACT_READ, f"{fact.__module__}:{fact.__name__}", str(file), repr(found))
    return found


def remember_facts(*facts: Callable[[str], object], files: Iterable[Path]) -> None:
    """Learn facts of some files for :func:`read_fact`, in forks of this process as well."""
    for file in files:
        for fact in facts:
            _learn(fact, file)


@cache
def source_files(folder: Path) -> tuple[Path, ...]:
    """Return the Python files below a folder, sorted; folders that are links are searched too."""
    # rglob passes over them.
    found = os.walk(folder, followlinks=True)
    return tuple(
        sorted(
            Path(place, name) for place, _, names in found for name in names if name.endswith(".py")
        )
    )


def note_code_read(function: FunctionType) -> None:
    """Say that the code of a function was read, so that a change of it may show."""
    sys.audit(CODE_READ, function.__code__)


def note_names_read(names: Iterable[str]) -> None:
    """Say that modules are searched for functions that use some names."""
    sys.audit(NAMES_READ, *names)


@cache
def _learn(fact: Callable[[str], Any], file: Path) -> Any:  # noqa: ANN401 - the fact's own type
    return fact(file.read_text(encoding="utf-8"))
