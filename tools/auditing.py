"""Audit of one side: what its recordings tell against it, less what is known with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.desk import Desk, known_device
from tools.errors import ToolError
from tools.formats.words import counted
from tools.inventory import uncovered_causes
from tools.known import Findings, findings_of, lineage_path
from tools.playing import recorded, unplayable_notes
from tools.progress import progress
from tools.sides import Side, parse_side
from tools.standing import standing
from traces.audit import key_of, lineage_of, render_lineage
from traces.model import Recording
from traces.verdict import ScenarioCounts, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One side, played for an audit.

    Attributes:
        recordings: by scenario.
        builders: that the side has.
        notes: one line for each reason why scenarios could not be played.
        problems: one line for each scenario that was not played to the end.
    """

    side: Side
    recordings: Mapping[str, Recording]
    builders: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def play_side(desk: Desk, side: str, *, python: Path | None, device: str) -> Played:
    """Play every scenario on a side, on all buffers that can be reached.

    Raises:
        ToolError: the side is unknown or cannot be played, or has nothing to play.
    """
    device = known_device(device)
    parsed = parse_side(side, root=desk.root, target=desk.target)
    scenarios = tuple(desk.scenarios.values())
    with (
        standing(parsed, root=desk.root, python=python) as place,
        desk.open_auditors(place) as troupe,
        progress(f"playing {parsed.text}", total=len(scenarios)) as on_played,
    ):
        playing = troupe.play(scenarios, device=device, on_played=on_played)
        builders = troupe.builders()
    recordings = recorded(playing)
    if not recordings and not playing.problems:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    return Played(
        side=parsed,
        recordings=recordings,
        builders=builders,
        notes=unplayable_notes(parsed.text, playing.unplayable),
        problems=playing.problems,
    )


def judge_audit(desk: Desk, played: Played) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a side and notes.

    Raises:
        ToolError: a file beside the audit cannot be read.
        TraceFormatError: such a file is not what it should be.
    """
    findings = findings_of(
        played.recordings,
        root=desk.root,
        target=desk.target,
        entries=desk.builders.values(),
        more=uncovered_causes(played.builders, registry={**desk.builders, **_called(played)}),
        apart=frozenset(),
    )
    notes = [*played.notes]
    if findings.known_num:
        known = counted(findings.known_num, "known finding")
        notes.append(f"not shown: {known} of traces/baseline/{desk.target}.toml")
    return _verdict(desk, played, findings), tuple(notes)


def keys(verdict: Verdict) -> tuple[str, ...]:
    """Return the lines that would make the findings of a verdict known, less their reasons."""
    return tuple(key_of(cause) for cause in verdict.causes)


def write_lineage(desk: Desk, played: Played) -> Path:
    """Put on file where the arguments of a side come from, and return the file.

    Raises:
        ToolError: it cannot be written, or not every scenario was played.
    """
    if played.problems:
        raise ToolError("lineage", "must be of all scenarios", expected="none lost", got="some")
    path = lineage_path(desk.root, target=desk.target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_lineage(lineage_of(played.recordings)), encoding="utf-8")
    except OSError as error:
        raise ToolError(str(path), "must be writable", expected="a file", got=error) from error
    return path


def _called(played: Played) -> dict[str, str]:
    """Return the builders that were really called, whatever the scenarios are named for."""
    return {
        f"{name} {call.call}": call.callee.partition(".")[0]
        for name, recording in played.recordings.items()
        for call in recording.trace.calls
        if call.role == "builder"
    }


def _verdict(desk: Desk, played: Played, findings: Findings) -> Verdict:
    changed = {name for cause in findings.new for name in cause.scenarios}
    fails = findings.new or findings.faults
    return Verdict(
        verdict="error" if played.problems else "fail" if fails else "pass",
        target=desk.target,
        base={"side": "its own rules"},
        head=played.side.described,
        scenarios=ScenarioCounts(
            played=len(played.recordings),
            unchanged=len(played.recordings.keys() - changed),
            changed=len(changed),
            names_changed=tuple(sorted(changed)),
        ),
        causes=findings.new,
        problems=(*played.problems, *findings.faults),
    )
