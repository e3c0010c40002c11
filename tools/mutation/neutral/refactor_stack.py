"""A stack of refactors as data: kinds and seeds, so that it can be printed, replayed and shrunk."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeAlias

from tools.mutation.source.source_tree import SourceTree, SourceUnit, parse_unit

STACK_STEPS_MAX = 20
_TRIES = 6

FileTexts: TypeAlias = dict[str, str]
Rewrite: TypeAlias = Callable[[SourceTree, SourceUnit, Random], "dict[str, str] | None"]
"""Returns the texts that change, by file, or None where a file has nothing to rewrite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefactorStep:
    """One refactor: what kind, and the seed of everything it chooses."""

    kind: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefactoredTree:
    """What became of a source tree.

    Attributes:
        texts: files that differ or are new.
        done: the steps that found something to rewrite, with the file.
    """

    texts: Mapping[str, str]
    done: tuple[tuple[RefactorStep, str], ...]


def random_stack(seed: int, kinds: Sequence[str]) -> tuple[RefactorStep, ...]:
    """Return a random stack of 1 to 20 refactors."""
    random = Random(seed)
    return tuple(
        RefactorStep(kind=random.choice(kinds), seed=random.randrange(2**32))
        for _ in range(random.randint(1, STACK_STEPS_MAX))
    )


def apply_stack(
    sources: Mapping[str, str], steps: Sequence[RefactorStep], rewrites: Mapping[str, Rewrite]
) -> RefactoredTree:
    """Apply refactors one after the other to a source tree, given by file."""
    now: FileTexts = dict(sources)
    done = []
    for step in steps:
        file = _apply_step(now, Random(step.seed), rewrites[step.kind])
        if file is not None:
            done.append((step, file))
    changed = {file: text for file, text in now.items() if sources.get(file) != text}
    return RefactoredTree(texts=changed, done=tuple(done))


def _apply_step(now: FileTexts, random: Random, rewrite: Rewrite) -> str | None:
    tree = SourceTree([parse_cached(file, text) for file, text in sorted(now.items())])
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
def parse_cached(file: str, text: str) -> SourceUnit:
    """Return a file read; most of a tree is the same from step to step."""
    return parse_unit(text.encode(), file=file)
