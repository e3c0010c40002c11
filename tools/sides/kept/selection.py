"""Sentences about which scenarios were run, which were kept, and what none of them executes."""

from collections.abc import Sequence

from tools.sides.kept.keeper import FoundRuns
from tools.sides.kept.reach import TreeChange

_SHOWN = 3


def describe_selection(found: FoundRuns, *, total: int, in_turns: int = 0) -> str:
    """Return which of some scenarios were run and why; empty when no run was kept before."""
    kept = found.by_scenario.values()
    same = sum(one.is_same_tree for one in kept)
    parts = []
    if same:
        verb = "was" if same == 1 else "were"
        parts.append(f"{same} {verb} recorded before, from the same tree")
    if len(kept) > same:
        verb = "does" if len(kept) - same == 1 else "do"
        parts.append(f"{len(kept) - same} {verb} not reach {_changed(found.change)}")
    if not parts and found.change is not None and found.change.everything:
        parts.append(found.change.everything)
    if not parts and not in_turns:
        return ""
    number = total - len(kept)
    verb = "was" if number == 1 else "were"
    seeds = (
        f"; {in_turns} under one of two hash seeds in turn, with equal traces" if in_turns else ""
    )
    reasons = f": {', '.join(parts)}" if parts else ""
    return f"{number} of {total} {verb} run now{reasons}{seeds}"


def add_unexecuted(selection: str, functions: Sequence[str]) -> str:
    """Return a sentence on a selection, and on a second line what no scenario guards, if anything.

    ``functions`` are the changed ones that no run of the base executes.
    """
    if not functions:
        return selection
    note = f"Not guarded: on the base no scenario executes {_shortened(functions)}"
    return f"{selection}.\n{note}" if selection else note


def _changed(change: TreeChange | None) -> str:
    if change is None or not change.modules:
        return "a changed line (no code differs)"
    names = [
        f"{file}:{function}" if function else file
        for file, one in sorted(change.modules.items())
        for function in (sorted(one.functions) or [""])
    ]
    return f"a changed line ({_shortened(names)})"


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
