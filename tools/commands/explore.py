"""The ``explore`` command: run random traffic, schedules and failures against invariants."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from tools import options
from tools.console import print_duration, progress
from tools.errors import ToolError, require_writable_path
from tools.workers.exploration import (
    Exploration,
    ExplorationFinding,
    RerunReplay,
    explore,
    open_exploration_pool,
)
from traces.explore import POLICIES, TrafficReplay, parse_replay, render_replay
from traces.explore.replay import describe_replay
from traces.targets.native.scenarios import scenario_of_config
from traces.text.phrases import pluralise

SCHEMA = "goldentrace.exploration/1"
RUNS, STEPS = 40, 20
LONG_RUNS, LONG_STEPS = 1000, 30

BuilderOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--builder", metavar="NAME", help="Only this builder; may be repeated."),
]
PolicyOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="|".join(POLICIES), help="Only this kind of schedule."),
]
RunsOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help=f"Runs of each builder; {RUNS}, or {LONG_RUNS} if long.")
]
LongOption: TypeAlias = Annotated[bool, typer.Option("--long", help="Many long runs, for nights.")]
ReplayOption: TypeAlias = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Run a violation again.")
]
ReplayFolderOption: TypeAlias = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where replays go.")
]


def explore_builders(
    context: typer.Context,
    *,
    seed: Annotated[int, typer.Option(help="Same seed, same runs.")] = 0,
    runs: RunsOption = None,
    builder: BuilderOption = None,
    policy: PolicyOption = None,
    long: LongOption = False,
    replay: ReplayOption = None,
    out: ReplayFolderOption = Path(".goldentrace/replays"),
    target: options.TargetOption = "native",
    as_json: options.JsonOption = False,
) -> None:
    """Run random traffic over every builder on the simulated device.

    A violation is shrunk, printed, and kept in a file that ``--replay`` runs again.
    """
    options.require_native(target)
    session = options.start_session(context, target=target)
    if replay is not None:
        _rerun_file(replay, root=session.root, as_json=as_json)
        return
    run_num = runs if runs is not None else LONG_RUNS if long else RUNS
    exploration = Exploration(
        root=session.root,
        scenarios=session.scenarios,
        seed=seed,
        run_num=run_num,
        step_num=LONG_STEPS if long else STEPS,
        builders=_select(
            builder, known=list(dict.fromkeys(session.builders.values())), what="builder"
        ),
        policies=_select(policy, known=POLICIES, what="policy"),
    )
    _require_folder(out)
    with print_duration(), progress("exploring", total=exploration.batch_count) as on_batch:
        findings = explore(exploration, on_batch=on_batch)
    files = [_write_replay(finding.replay, out=out) for finding in findings]
    if as_json:
        print(json.dumps(_exploration_json(exploration, findings, files), indent=2))
    else:
        print(_exploration_text(exploration, findings, files))
    if findings:
        raise typer.Exit(1)


def _rerun_file(file: Path, *, root: Path, as_json: bool) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(file), "must be readable", expected="a replay", got=error) from error
    kept = parse_replay(text, name=str(file), scenario_of=scenario_of_config)
    with print_duration(), open_exploration_pool(root, size=1) as pool:
        found = pool.call(RerunReplay(replay=kept))
    if as_json:
        violation = None if found is None else _replay_json(found)
        print(json.dumps({"schema": SCHEMA, "violation": violation}))
    elif found is None:
        print(f"{kept.scenario}: {pluralise(len(kept.steps), 'step')}, no violation")
    else:
        print(describe_replay(found))
    if found is not None:
        raise typer.Exit(1)


def _select(wanted: list[str] | None, *, known: Sequence[str], what: str) -> tuple[str, ...]:
    for name in wanted or []:
        if name not in known:
            expected = ", ".join(known)
            raise ToolError(f"--{what}", "must be known", expected=expected, got=repr(name))
    return tuple(known) if not wanted else tuple(dict.fromkeys(wanted))


def _require_folder(out: Path) -> None:
    """Refuse a folder that could not be written, before the work is done."""
    nearest = next((path for path in (out, *out.parents) if path.exists()), out)
    if not nearest.is_dir():
        raise ToolError(str(out), "must be writable", expected="a directory", got=f"file {nearest}")


def _write_replay(replay: TrafficReplay, *, out: Path) -> Path:
    file = out / f"{replay.scenario}.{replay.seed}.json"
    with require_writable_path(out, expected="a directory"):
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(render_replay(replay), encoding="utf-8")
    return file


def _exploration_json(
    exploration: Exploration, findings: list[ExplorationFinding], files: list[Path]
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "seed": exploration.seed,
        "runs": exploration.run_num,
        "builders": list(exploration.builders),
        "policies": list(exploration.policies),
        "violations": [
            {"builder": finding.builder, "run": finding.run, "replay": str(file)}
            | _replay_json(finding.replay)
            for finding, file in zip(findings, files, strict=True)
        ],
    }


def _replay_json(replay: TrafficReplay) -> dict[str, Any]:
    return {
        "scenario": replay.scenario,
        "invariant": replay.invariant,
        "message": replay.message,
        "steps": len(replay.steps),
    }


def _exploration_text(
    exploration: Exploration, findings: list[ExplorationFinding], files: list[Path]
) -> str:
    blocks = [
        f"{finding.builder}, run {finding.run}: {describe_replay(finding.replay)}\n"
        f"  again: goldentrace explore --replay {file}"
        for finding, file in zip(findings, files, strict=True)
    ]
    builders = pluralise(len(exploration.builders), "builder")
    settings = f"{builders}, {pluralise(exploration.run_num, 'run')} each, seed {exploration.seed}"
    return "\n\n".join([*blocks, f"{settings}: {pluralise(len(findings), 'violation')}"])
