"""Releases side by side: the changes of each step between them, and their builders."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from tools.console import print_status
from tools.errors import ToolError, one_line
from tools.session import Session
from tools.sides.parse import Side
from tools.sides.results import SideResults
from tools.sides.targets import find_target, load_aliases
from traces.diff import compare_sides
from traces.diff.aliases import Aliases
from traces.schema.verdict import Cause, Level
from traces.targets.common.scenario import Scenario

KNOWN_CHANGES_PATH = Path(__file__).parent / "catalogue" / "sglang_steps.toml"

_File = TypeVar("_File")


def read_toml(path: Path, kind: type[_File], *, rule: str, holds: str) -> _File:
    """Read a TOML file of a known form.

    Raises:
        ToolError: there is no such file, or it has another form; ``rule`` and ``holds`` say which.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ToolError(str(path), rule, expected=holds, got=one_line(str(error))) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStep:
    """Differences between one side and the next.

    Attributes:
        scenarios: number that both sides run.
        causes: those that change behaviour, most upstream first.
    """

    base: str
    head: str
    scenarios: int
    causes: tuple[Cause, ...]


class KnownChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Explanation of some causes of one step.

    Attributes:
        step: ``BASE to HEAD``, sides without what kind they are: ``0.5.11 to 0.5.12``.
        match: shell pattern for a cause's headline.
        what: ``fix``, ``fault``, ``intended`` or ``false alarm``.
        reason: a short sentence; for fixes and faults with the case or pull request.
    """

    step: str
    match: str
    what: Literal["fix", "fault", "intended", "false alarm"]
    reason: str


class KnownChangesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of known changes between releases."""

    change: tuple[KnownChange, ...]


UNEXPLAINED = "unexplained"


def explain_cause(
    step: ReleaseStep, cause: Cause, *, known: Sequence[KnownChange]
) -> tuple[str, str]:
    """Return the kind and reason of a cause; ``unexplained`` for an unknown one."""
    base, head = (side.partition(":")[2] or side for side in (step.base, step.head))
    for change in known:
        if change.step == f"{base} to {head}" and fnmatchcase(cause.headline(), change.match):
            return change.what, change.reason
    return UNEXPLAINED, ""


def run_surveyed_side(
    session: Session, side: Side, *, scenarios: Sequence[Scenario], device: str
) -> SideResults:
    """Run scenarios on one side and print how long it took.

    Raises:
        ToolError: the side cannot be prepared, or a scenario not be run to its end.
    """
    with session.open_kept_side(side, device=device) as opened:
        results = opened.plan(
            scenarios, device=device, lists_builders=True, runs_all=False, keeps="all"
        ).run()
    results.require_no_problems(subject=side.text, rule="must be runnable")
    print_status(f"{side.text}: {len(results.recordings)} played in {results.seconds:.1f} s")
    return results


def compare_in_order(results: Mapping[str, SideResults], *, target: str) -> Iterator[ReleaseStep]:
    """Compare every side with the one before it."""
    aliases = load_aliases(find_target(target))
    for (base, old), (head, new) in pairwise(results.items()):
        causes = behaviour_causes(old, new, aliases=aliases)
        shared = old.recordings.keys() & new.recordings.keys()
        yield ReleaseStep(base=base, head=head, scenarios=len(shared), causes=causes)


def behaviour_causes(
    base: SideResults, head: SideResults, *, aliases: Aliases
) -> tuple[Cause, ...]:
    """Return the changes of behaviour in the scenarios that both sides run."""
    shared = base.recordings.keys() & head.recordings.keys()
    causes = compare_sides(
        {name: base.recordings[name] for name in shared},
        {name: head.recordings[name] for name in shared},
        aliases=aliases,
    )
    return tuple(cause for cause in causes if cause.level is Level.BEHAVIOUR)


def tabulate_coverage(results: Mapping[str, SideResults]) -> dict[str, dict[str, str]]:
    """Return builders against sides: ``played``, ``not played`` or ``-`` for none."""
    names = sorted({name for side in results.values() for name in side.builders})
    table = {name: dict.fromkeys(results, "-") for name in names}
    for side, one in results.items():
        called = frozenset(one.called_builders.values())
        for name in one.builders:
            table[name][side] = "played" if name in called else "not played"
    return table
