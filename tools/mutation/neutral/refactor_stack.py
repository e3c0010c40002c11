"""A stack of refactors as kinds and seeds, so that it can be printed, replayed and shrunk."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from tools.mutation.mutant import RefactorStep
from tools.mutation.neutral.rewrites import REWRITES
from tools.mutation.source.outside import OutsideNames
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import SourceUnit

STACK_STEPS_MAX = 20
LARGE_TEXT = 20_000
"""Characters of a text of which few are kept parsed."""
_TRIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RefactoredTree:
    """A source tree after a stack of refactors.

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
    sources: Mapping[str, str],
    steps: Sequence[RefactorStep],
    *,
    outside: OutsideNames,
) -> RefactoredTree:
    """Apply refactors one after the other to a source tree, given by file.

    ``outside`` are the names in the other files of its package.
    """
    now = dict(sources)
    done = []
    for step in steps:
        random = Random(step.seed)
        units = [parse_cached(file, text) for file, text in sorted(now.items())]
        tree = SourceTree(units, outside)
        for unit in random.choices(tree.units, k=_TRIES):
            changed = random_refactor(step.kind, tree, unit, random)
            if changed:
                now.update(changed)
                done.append((step, unit.file))
                break
    changed = {file: text for file, text in now.items() if sources.get(file) != text}
    return RefactoredTree(texts=changed, done=tuple(done))


def random_refactor(
    kind: str, tree: SourceTree, unit: SourceUnit, random: Random
) -> dict[str, str]:
    """Return the texts that one refactor of a file changes; empty when it has no place for it."""
    found = list(REWRITES[kind](tree, unit))
    changed = random.choice(found) if found else {}
    # Not every edit inside an f-string can be parsed.
    return changed if all(map(_is_source, changed.values())) else {}


def _is_source(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def parse_cached(file: str, text: str) -> SourceUnit:
    """Return a parsed file; most files of a tree stay the same from step to step."""
    return (_parse_large if len(text) > LARGE_TEXT else _parse_small)(file, text)


@lru_cache(maxsize=1024)
def _parse_small(file: str, text: str) -> SourceUnit:
    return SourceUnit(file, text.encode())


@lru_cache(maxsize=16)
def _parse_large(file: str, text: str) -> SourceUnit:
    # The largest modules of a release take more than 100 MB each.
    return SourceUnit(file, text.encode())
