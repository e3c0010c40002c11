"""Releases side by side: what each step between them changed, and which builders each has."""

import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec

from tools.errors import ToolError, one_line
from tools.progress import progress
from tools.session import Session
from tools.sides.targets import find_target, load_aliases
from tools.workers.protocol import ListBuilders
from tools.workers.results import parse_recordings, run_scenarios
from traces.diff import compare_sides
from traces.diff.aliases import Aliases
from traces.schema.model import Recording
from traces.schema.verdict import Cause, Level
from traces.targets.common.scenario import Scenario

KNOWN_CHANGES_PATH = Path(__file__).parent / "catalogue" / "sglang_steps.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyRun:
    """One side, played.

    Attributes:
        recordings: by scenario.
        unplayable: scenarios that the side has no parts for, with the reason.
        builders: the side's stack builders and strategies.
        seconds: how long it took.
    """

    recordings: Mapping[str, Recording]
    unplayable: Mapping[str, str]
    builders: tuple[str, ...]
    seconds: float

    def called_builders(self) -> frozenset[str]:
        """Return the builders and strategies that were really called."""
        return frozenset(
            call.callee.partition(".")[0]
            for recording in self.recordings.values()
            for call in recording.trace.calls
            if call.role == "builder"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStep:
    """What changed from one side to the next.

    Attributes:
        scenarios: how many both sides play.
        causes: those that change behaviour, most upstream first.
    """

    base: str
    head: str
    scenarios: int
    causes: tuple[Cause, ...]


class KnownChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of some causes of one step.

    Attributes:
        step: ``BASE to HEAD``, sides without what kind they are: ``0.5.11 to 0.5.12``.
        match: shell pattern for a cause's headline.
        what: ``fix``, ``fault``, ``intended`` or ``false alarm``.
        reason: why, a short sentence; for fixes and faults with the case or pull request.
    """

    step: str
    match: str
    what: Literal["fix", "fault", "intended", "false alarm"]
    reason: str


class KnownChangesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of the steps between releases."""

    change: tuple[KnownChange, ...]


UNEXPLAINED = "unexplained"


def read_known_changes(path: Path) -> tuple[KnownChange, ...]:
    """Read what is known of the steps between releases.

    Raises:
        ToolError: there is no such file, or it says something else.
    """
    try:
        return msgspec.convert(
            tomllib.loads(path.read_text(encoding="utf-8")), KnownChangesFile
        ).change
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ToolError(
            str(path), "must say what is known", expected="changes", got=one_line(str(error))
        ) from error


def explain_cause(
    step: ReleaseStep, cause: Cause, *, known: Sequence[KnownChange]
) -> tuple[str, str]:
    """Return what a cause is and why; ``unexplained`` when nobody said so yet."""
    name = f"{_version(step.base)} to {_version(step.head)}"
    for change in known:
        if change.step == name and fnmatchcase(cause.headline(), change.match):
            return change.what, change.reason
    return UNEXPLAINED, ""


def _version(side: str) -> str:
    return side.partition(":")[2] or side


def run_surveyed_side(
    session: Session,
    side: str,
    *,
    scenarios: Sequence[Scenario],
    device: str,
    python: Path | None,
) -> SurveyRun:
    """Play scenarios on one side.

    Raises:
        ToolError: the side cannot be played, or a scenario not to its end.
    """
    start = time.perf_counter()
    with (
        session.open_side(side, python=python) as troupe,
        progress(f"playing {side}", total=len(scenarios)) as on_played,
    ):
        playing = run_scenarios(troupe, scenarios, device=device, on_run=on_played)
        builders = troupe.call(ListBuilders())
    if playing.problems:
        more = f" (and {len(playing.problems) - 1} more)" if len(playing.problems) > 1 else ""
        raise ToolError(
            side, "must be playable", expected="no problem", got=f"{playing.problems[0]}{more}"
        )
    return SurveyRun(
        recordings=parse_recordings(playing),
        unplayable=playing.unplayable,
        builders=builders,
        seconds=time.perf_counter() - start,
    )


def compare_in_order(played: Mapping[str, SurveyRun], *, target: str) -> Iterator[ReleaseStep]:
    """Compare every side with the one before it."""
    aliases = load_aliases(find_target(target))
    for (base, old), (head, new) in pairwise(played.items()):
        causes = behaviour_causes(old, new, aliases=aliases)
        shared = old.recordings.keys() & new.recordings.keys()
        yield ReleaseStep(base=base, head=head, scenarios=len(shared), causes=causes)


def behaviour_causes(base: SurveyRun, head: SurveyRun, *, aliases: Aliases) -> tuple[Cause, ...]:
    """Return what changes behaviour in the scenarios that both sides play."""
    shared = base.recordings.keys() & head.recordings.keys()
    causes = compare_sides(
        {name: base.recordings[name] for name in shared},
        {name: head.recordings[name] for name in shared},
        aliases=aliases,
    )
    return tuple(cause for cause in causes if cause.level is Level.BEHAVIOUR)


def tabulate_coverage(played: Mapping[str, SurveyRun]) -> dict[str, dict[str, str]]:
    """Return, for each builder, what each side says of it: ``played``, ``not played`` or ``-``."""
    names = sorted({name for side in played.values() for name in side.builders})
    return {
        name: {
            side: _coverage_word(name, of=one, called_builders=one.called_builders())
            for side, one in played.items()
        }
        for name in names
    }


def _coverage_word(builder: str, *, of: SurveyRun, called_builders: frozenset[str]) -> str:
    if builder not in of.builders:
        return "-"
    return "played" if builder in called_builders else "not played"
