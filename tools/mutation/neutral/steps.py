"""A stack of refactors as data: kinds and seeds, so that it can be printed, replayed and shrunk."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeAlias

from tools.mutation.source import Tree, Unit, parse_unit

STACK_MAX = 20
_TRIES = 6

Texts: TypeAlias = dict[str, str]
Rewrite: TypeAlias = Callable[[Tree, Unit, Random], "dict[str, str] | None"]
"""Returns the texts that change, by file, or None where a file has nothing to rewrite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One refactor: what kind, and the seed of everything it chooses."""

    kind: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of a source tree.

    Attributes:
        texts: files that differ or are new.
        done: the steps that found something to rewrite, with the file.
    """

    texts: Mapping[str, str]
    done: tuple[tuple[Step, str], ...]


def stack_of(seed: int, kinds: Sequence[str]) -> tuple[Step, ...]:
    """Return a random stack of 1 to 20 refactors."""
    random = Random(seed)
    return tuple(
        Step(kind=random.choice(kinds), seed=random.randrange(2**32))
        for _ in range(random.randint(1, STACK_MAX))
    )


def applied_stack(
    sources: Mapping[str, str], steps: Sequence[Step], rewrites: Mapping[str, Rewrite]
) -> Applied:
    """Apply refactors one after the other to a source tree, given by file."""
    now: Texts = dict(sources)
    done = []
    for step in steps:
        file = _apply(now, Random(step.seed), rewrites[step.kind])
        if file is not None:
            done.append((step, file))
    changed = {file: text for file, text in now.items() if sources.get(file) != text}
    return Applied(texts=changed, done=tuple(done))


def _apply(now: Texts, random: Random, rewrite: Rewrite) -> str | None:
    tree = Tree([parsed(file, text) for file, text in sorted(now.items())])
    by_file = {unit.file: unit for unit in tree.units}
    for _ in range(_TRIES):
        file = random.choice(sorted(now))
        changed = rewrite(tree, by_file[file], random)
        if changed and all(_is_source(text) for text in changed.values()):
            now.update(changed)
            return file
    return None


def _is_source(text: str) -> bool:
    """Tell whether a text can be parsed: inside an f-string not every quote may stand."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@lru_cache(maxsize=4096)
def parsed(file: str, text: str) -> Unit:
    """Return a file read; most of a tree is the same from step to step."""
    return parse_unit(text.encode(), file=file)
