"""Attribution of the causes of a verdict to hunks of source, within a limit of time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tools.console import print_status
from tools.errors import ToolError
from tools.hunks.bisection import Bisection, HunkSet, bisect_hunks
from tools.hunks.refile import file_by_hunks
from tools.hunks.source_hunks import (
    CodeHunk,
    SourceDiff,
    changes_bodies_only,
    compare_trees,
    executed_hunks,
    hunks_at,
    is_python,
    linked_units,
    revertible_units,
)
from tools.hunks.variants import VariantRuns, variant_pool
from tools.hunks.worker import ListExecutedLines
from tools.sides.targets import NATIVE, SGLANG, find_target, load_aliases
from tools.workers.launch import WorkerLauncher
from traces.schema.model import Recording
from traces.schema.verdict import Cause, Kind, Level
from traces.targets.common.scenario import Scenario
from traces.text.phrases import pluralise

SCENARIOS_MAX = 4
"""Scenarios that are run without hunks: the smallest one of each of the first causes."""

CAUSES_MAX = 8
"""Causes of which the hunks at their lines are tried first."""

_PACKAGES = {NATIVE: "assembler", SGLANG: "sglang"}
_WORKERS = {
    NATIVE: "tools.hunks.worker:NativeVariantWorker",
    SGLANG: "tools.hunks.worker:SglangVariantWorker",
}
_UNTRIED_KINDS = frozenset({Kind.SCENARIO_ADDED, Kind.SCENARIO_REMOVED, Kind.RENAMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class HunkSides:
    """Two sides that can be run, to revert hunks between them.

    Attributes:
        base: launcher of workers that import the base; ``head`` of those that import the head.
        recordings: of base and head, by scenario.
        scenarios: by name.
        seconds: limit of the whole attribution.
        limit_seconds: limit of one scenario.
    """

    target: str
    base: WorkerLauncher
    head: WorkerLauncher
    recordings: tuple[Mapping[str, Recording], Mapping[str, Recording]]
    scenarios: Mapping[str, Scenario]
    device: str
    seconds: float
    limit_seconds: float


def attribute_to_hunks(
    causes: Sequence[Cause], sides: HunkSides
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes with the hunks that make them, and notes on what was not tried.

    The head is run without some of the hunks between the sides; what does not differ then is made
    by these. Each consequence is filed under the cause of its own hunks.
    """
    chosen = choose_scenarios(causes, sides.recordings)
    if not chosen:
        return tuple(causes), ()
    print_status("running without parts of the change, to find which hunks make the causes")
    try:
        found, notes = _bisect(causes, sides, chosen)
    except ToolError as error:
        return tuple(causes), (f"causes were not attributed to hunks: {error}",)
    filed = file_by_hunks(causes, found.makings)
    left = [cause for cause in filed if _is_tried(cause) and not cause.made_by]
    if left:
        lost = pluralise(len(left), "cause")
        notes += (f"no hunk was found for {lost}: {left[0].headline()}",)
    return filed, notes


def _bisect(
    causes: Sequence[Cause], sides: HunkSides, chosen: Sequence[str]
) -> tuple[Bisection, tuple[str, ...]]:
    start = time.monotonic()
    package = _PACKAGES[sides.target]
    base, head = (
        replace(side, worker_class=_WORKERS[sides.target]) for side in (sides.base, sides.head)
    )
    diff = compare_trees(base.root, head.root, package=package)
    if not diff.hunks:
        raise ToolError("sources", "must differ to be bisected", expected="a hunk", got="none")
    scenarios = tuple(sides.scenarios[name] for name in chosen)
    task = ListExecutedLines(files=tuple(diff.base), scenarios=scenarios, device=sides.device)
    with variant_pool(base, limit_seconds=sides.limit_seconds) as pool:
        old = pool.call(task)
    with variant_pool(head, limit_seconds=sides.limit_seconds) as pool:
        hunks = executed_hunks(diff, base=old, head=pool.call(task))
        runs = VariantRuns(
            pool=pool,
            diff=diff,
            package=package,
            scenarios=scenarios,
            device=sides.device,
            base=sides.recordings[0],
            head=sides.recordings[1],
            aliases=load_aliases(find_target(sides.target)),
            deadline=start + sides.seconds,
        )
        if runs.run(frozenset()).causes:
            rule = "must run alike in the worker that reverts hunks"
            raise ToolError("head", rule, expected="the same trace", got="another one")
        units = linked_units(diff, revertible_units(diff, hunks, is_code=is_python))
        found = bisect_hunks(
            _groups(diff, units, causes),
            hunks=diff.hunks,
            run=runs.run,
            has_time=runs.has_time,
        )
    return found, tuple(_notes(found, diff=diff, hunks=hunks, seconds=sides.seconds))


def _groups(
    diff: SourceDiff, units: Sequence[HunkSet], causes: Sequence[Cause]
) -> list[list[HunkSet]]:
    """Return the units at the lines of the first causes, each alone, then all others.

    Those that change bodies of functions only are one group: a run without them is fast.
    """
    places = [hunks_at(diff, cause.location) for cause in causes if _is_tried(cause)]
    near = [unit for place in places[:CAUSES_MAX] for unit in units if unit & place]
    alone = list(dict.fromkeys(near))
    rest = [unit for unit in units if unit not in alone]
    is_fast = {unit: changes_bodies_only(diff, unit) for unit in rest}
    others = [[unit for unit in rest if is_fast[unit] is fast] for fast in (True, False)]
    return [*([unit] for unit in alone), *others]


def _notes(
    found: Bisection, *, diff: SourceDiff, hunks: Sequence[CodeHunk], seconds: float
) -> Iterator[str]:
    tried = f"{len(hunks)} of {pluralise(len(diff.hunks), 'hunk')} were executed"
    yield f"{tried}; {pluralise(found.trial_num, 'run')} without some of them"
    if not found.is_complete:
        yield f"the search for hunks ended after {seconds:g} s; --attribute-time gives it more"
    if found.broken:
        places = ", ".join(sorted({hunk.record.place for one in found.broken for hunk in one})[:3])
        yield f"{pluralise(len(found.broken), 'hunk')} could not be reverted: {places}"
    if diff.only_head:
        yield f"{pluralise(len(diff.only_head), 'new file')} stayed in every run"


def choose_scenarios(
    causes: Sequence[Cause], recordings: tuple[Mapping[str, Recording], Mapping[str, Recording]]
) -> tuple[str, ...]:
    """Return the smallest scenario of each of the first causes that no earlier choice has."""
    base, head = recordings
    chosen: list[str] = []
    for cause in causes:
        able = [name for name in cause.scenarios if name in base and name in head]
        is_new = able and not set(chosen) & set(able)
        if _is_tried(cause) and is_new and len(chosen) < SCENARIOS_MAX:
            chosen.append(min(able, key=lambda name: (_size(head[name]), name)))
    return tuple(chosen)


def _is_tried(cause: Cause) -> bool:
    return cause.level is Level.BEHAVIOUR and cause.kind not in _UNTRIED_KINDS


def _size(recording: Recording) -> int:
    return len(recording.trace.calls) + len(recording.trace.events)
