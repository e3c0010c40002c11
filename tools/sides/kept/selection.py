"""Sentences about which scenarios were run and which were kept."""

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


def _changed(change: TreeChange | None) -> str:
    if change is None or not change.modules:
        return "a changed line (no code differs)"
    names = [
        f"{file}:{function}" if function else file
        for file, one in sorted(change.modules.items())
        for function in (sorted(one.functions) or [""])
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"a changed line ({', '.join(names[:_SHOWN])}{more})"
