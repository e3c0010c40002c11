"""Choice of the mutants of a release that are run, and the reasons why sites cannot be."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

import msgspec

from tools.mutation.generator import MutantDraft, MutationScope, Operator, draft_mutants
from tools.mutation.mutant import LineRange
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import read_unit

ReachedLines = Mapping[str, frozenset[int]]


class UnexecutedSites(msgspec.Struct, frozen=True, kw_only=True):
    """The sites of one kind that no scenario executes.

    Attributes:
        sites: all sites of the kind.
        reasons: number of those not executed, by reason.
    """

    operator: str
    sites: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class _FileDrafts:
    """Drafts all mutants of one file; can be sent to another process."""

    root: Path
    scope: MutationScope
    operators: Mapping[str, Operator]

    def __call__(self, file: str) -> list[MutantDraft]:
        tree = SourceTree([read_unit(self.root, file)])
        return list(draft_mutants(tree, self.scope, self.operators))


def draft_files(
    root: Path, scope: MutationScope, operators: Mapping[str, Operator], *, workers: int
) -> list[MutantDraft]:
    """Return the drafts of all files of a scope, made by several processes.

    Raises:
        ToolError: a file cannot be parsed.
    """
    by_size = sorted(scope.files, key=lambda file: -(root / file).stat().st_size)
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        found = pool.map(_FileDrafts(root, scope, operators), by_size)
        drafts = [draft for of_file in found for draft in of_file]
    order = {name: number for number, name in enumerate(operators)}
    return sorted(drafts, key=lambda one: (order[one.operator], _place(one)))


def select_drafts(
    drafts: Sequence[MutantDraft], reached: ReachedLines, *, seed: int
) -> tuple[list[MutantDraft], tuple[UnexecutedSites, ...]]:
    """Return the drafts that scenarios execute, one of each kind in turn, and those that none does.

    Within a kind the order is random.
    """
    executed: dict[str, list[MutantDraft]] = {}
    counts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    for draft in drafts:
        counts[draft.operator] += 1
        if any(_is_reached(one, reached) for one in draft.changed_ranges):
            executed.setdefault(draft.operator, []).append(draft)
        else:
            reasons.setdefault(draft.operator, Counter())[_reason(draft, reached)] += 1
    ranked = []
    for kind, found in executed.items():
        Random(f"{seed} {kind}").shuffle(found)
        ranked += list(enumerate(found))
    ranked.sort(key=lambda pair: pair[0])
    unexecuted = tuple(
        UnexecutedSites(operator=kind, sites=number, reasons=dict(reasons.get(kind, {})))
        for kind, number in counts.items()
    )
    return [draft for _, draft in ranked], unexecuted


def _place(draft: MutantDraft) -> tuple[str, int, str]:
    first = draft.changed_ranges[0]
    return first.file, first.first, draft.key


def _is_reached(one: LineRange, reached: ReachedLines) -> bool:
    return not reached.get(one.file, frozenset()).isdisjoint(one.lines)


def _reason(draft: MutantDraft, reached: ReachedLines) -> str:
    """Return why no scenario executes a site: from the lines of its file that scenarios execute."""
    if not reached.get(draft.changed_ranges[0].file):
        return "no scenario calls a function of the file"
    if any(_is_reached(one, reached) for one in draft.functions):
        return "scenarios call the function and do not come to the line"
    return "no scenario calls the function"
