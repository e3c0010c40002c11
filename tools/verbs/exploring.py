"""``explore``: random traffic, schedules and failures against what every stack must keep."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from tools.errors import ToolError
from tools.exploring import Exploration, Finding, batch_num, explore, replay_again
from tools.formats.words import counted
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    AsJson,
    Target,
    opener,
    require_native,
)
from tools.output import timed
from tools.progress import progress
from traces.explore import POLICIES, Replay, parse_replay, render_replay
from traces.explore.replay import described

SCHEMA = "goldentrace.exploration/1"
RUNS, STEPS = 40, 20
LONG_RUNS, LONG_STEPS = 1000, 30

Builders: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--builder", metavar="NAME", help="Only this builder; may be repeated."),
]
Policies: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="|".join(POLICIES), help="Only this kind of schedule."),
]
Runs: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help=f"Runs of each builder; {RUNS}, or {LONG_RUNS} if long.")
]
Long: TypeAlias = Annotated[bool, typer.Option("--long", help="Many long runs, for nights.")]
ReplayFile: TypeAlias = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Play a violation again.")
]
Kept: TypeAlias = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where replays go.")]


def explore_builders(
    context: typer.Context,
    *,
    seed: Annotated[int, typer.Option(help="Same seed, same runs.")] = 0,
    runs: Runs = None,
    builder: Builders = None,
    policy: Policies = None,
    long: Long = False,
    replay: ReplayFile = None,
    out: Kept = Path(".goldentrace/replays"),
    target: Target = "native",
    as_json: AsJson = False,
) -> None:
    """Run random traffic over every builder on the simulated device.

    A violation is shrunk, printed, and kept in a file that ``--replay`` plays again.
    """
    require_native(target)
    desk = opener(context)(target=target, limit_seconds=DEFAULT_LIMIT_SECONDS)
    if replay is not None:
        _play_again(replay, root=desk.root, as_json=as_json)
        return
    run_num = runs if runs is not None else LONG_RUNS if long else RUNS
    exploration = Exploration(
        root=desk.root,
        scenarios=desk.scenarios,
        seed=seed,
        run_num=run_num,
        step_num=LONG_STEPS if long else STEPS,
        builders=_some(builder, known=list(dict.fromkeys(desk.builders.values())), what="builder"),
        policies=_some(policy, known=POLICIES, what="policy"),
    )
    _require_folder(out)
    with timed(), progress("exploring", total=batch_num(exploration)) as on_batch:
        findings = explore(exploration, on_batch=on_batch)
    files = [_keep(finding.replay, out=out) for finding in findings]
    if as_json:
        print(json.dumps(_listing(exploration, findings, files), indent=2))
    else:
        print(_text(exploration, findings, files))
    if findings:
        raise typer.Exit(1)


def _play_again(file: Path, *, root: Path, as_json: bool) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(file), "must be readable", expected="a replay", got=error) from error
    kept = parse_replay(text, name=str(file))
    with timed():
        found = replay_again(root, kept)
    if as_json:
        print(json.dumps({"schema": SCHEMA, "violation": None if found is None else _told(found)}))
    elif found is None:
        print(f"{kept.scenario}: {counted(len(kept.steps), 'step')}, no violation")
    else:
        print(described(found))
    if found is not None:
        raise typer.Exit(1)


def _some(wanted: list[str] | None, *, known: Sequence[str], what: str) -> tuple[str, ...]:
    for name in wanted or []:
        if name not in known:
            expected = ", ".join(known)
            raise ToolError(f"--{what}", "must be known", expected=expected, got=repr(name))
    return tuple(known) if not wanted else tuple(dict.fromkeys(wanted))


def _require_folder(out: Path) -> None:
    """Refuse before the work what could not be written after it."""
    nearest = next((path for path in (out, *out.parents) if path.exists()), out)
    if not nearest.is_dir():
        raise ToolError(str(out), "must be writable", expected="a directory", got=f"file {nearest}")


def _keep(replay: Replay, *, out: Path) -> Path:
    file = out / f"{replay.scenario}.{replay.seed}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(render_replay(replay), encoding="utf-8")
    except OSError as error:
        raise ToolError(str(out), "must be writable", expected="a directory", got=error) from error
    return file


def _listing(
    exploration: Exploration, findings: list[Finding], files: list[Path]
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "seed": exploration.seed,
        "runs": exploration.run_num,
        "builders": list(exploration.builders),
        "policies": list(exploration.policies),
        "violations": [
            {
                "builder": finding.builder,
                "run": finding.run,
                "replay": str(file),
                **_told(finding.replay),
            }
            for finding, file in zip(findings, files, strict=True)
        ],
    }


def _told(replay: Replay) -> dict[str, Any]:
    return {
        "scenario": replay.scenario,
        "invariant": replay.invariant,
        "message": replay.message,
        "steps": len(replay.steps),
    }


def _text(exploration: Exploration, findings: list[Finding], files: list[Path]) -> str:
    blocks = [
        f"{finding.builder}, run {finding.run}: {described(finding.replay)}\n"
        f"  again: goldentrace explore --replay {file}"
        for finding, file in zip(findings, files, strict=True)
    ]
    builders = counted(len(exploration.builders), "builder")
    asked = f"{builders}, {counted(exploration.run_num, 'run')} each, seed {exploration.seed}"
    return "\n\n".join([*blocks, f"{asked}: {counted(len(findings), 'violation')}"])
