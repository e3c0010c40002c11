"""The ``bench`` commands: speeds and costs, as ratios."""

import json
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from tools import options
from tools.bench.gate_times import time_gates
from tools.bench.ratios import bench_devices, bench_gate, bench_recorder
from tools.bench.tree import bench_trees
from tools.errors import ToolError
from tools.session import Session
from tools.sides.prepare import prepare_side
from tools.sides.results import no_scenario_error
from traces.targets.common.scenario import Scenario

RoundsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Repetitions; medians are shown.")
]

ChangedOption: TypeAlias = Annotated[
    str | None, typer.Option("--changed", metavar="BUILDER", help="Function that is changed.")
]

bench = typer.Typer(name="bench", help="Throughput and overhead, as ratios.", rich_markup_mode=None)


@bench.command("gate")
def measure_gate(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    target: options.TargetOption = "native",
    device: options.DeviceOption = "auto",
    rounds: RoundsOption = 3,
    changed: ChangedOption = None,
    base: options.SideOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Time the whole gate against bare runs of the same scenarios.

    With --changed BUILDER: once with nothing kept, once with everything kept, and after a change of
    that function, with the selected scenarios and with all; --base names the side of a package.
    """
    if changed is not None:
        session = options.start_session(context, target=target)
        side = options.parse_code_side(session, base, option="--base", python=None)
        with prepare_side(side, root=session.root) as prepared:
            times = time_gates(
                session.root, target=target, base=side.text, place=prepared.root, builder=changed
            )
        _print_figures(times, as_json=as_json)
        return
    options.require_native(target)
    session = options.start_session(context, target=target)
    found = bench_gate(
        session.root,
        scenarios=_select(session, names),
        device=options.parse_device(device),
        rounds=rounds,
        arguments=names or [],
    )
    _print_figures(found, as_json=as_json)


@bench.command("recorder")
def measure_recorder(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    target: options.TargetOption = "native",
    device: options.DeviceOption = "auto",
    rounds: RoundsOption = 3,
    as_json: options.JsonOption = False,
) -> None:
    """Time recording against not recording, and how encoding and diffing grow.

    Without names the first scenario of every builder is run.
    """
    options.require_native(target)
    session = options.start_session(context, target=target)
    scenarios = _select(session, names)
    if not names:
        scenarios = list({one.builder: one for one in reversed(scenarios)}.values())
    found = bench_recorder(scenarios=scenarios, device=options.parse_device(device), rounds=rounds)
    _print_figures(found, as_json=as_json)


@bench.command("trace")
def measure_traces(
    context: typer.Context,
    *,
    events: Annotated[
        list[int] | None,
        typer.Option(
            min=1000, metavar="N", help="Events of a trace; 10,000, 100,000 and 1,000,000 if none."
        ),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Time recording, encoding, decoding and diffing of long traces, with their memory.

    An exponent is the power of the number of events with which the time grows: 1 is linear.
    """
    from tools.bench.trace_costs import bench_traces

    options.start_session(context, target="native")
    sizes = sorted(set(events or (10_000, 100_000, 1_000_000)))
    if len(sizes) < 2:
        raise ToolError(
            "--events", "must show growth", expected="two numbers or more", got=sizes[0]
        )
    _print_figures(bench_traces(sizes), as_json=as_json)


@bench.command("devices")
def measure_devices(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    rounds: RoundsOption = 3,
    as_json: options.JsonOption = False,
) -> None:
    """Time the simulated accelerator against the eager CPU device, over all scenarios."""
    session = options.start_session(context, target="native")
    scenarios = _select(session, names)
    _print_figures(bench_devices(scenarios=scenarios, rounds=rounds), as_json=as_json)


@bench.command("transfer")
def measure_transfers(
    context: typer.Context,
    pools: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POOL]...", help="mha, mla, dsa, indexer, mamba; all if none."),
    ] = None,
    *,
    device: options.DeviceOption = "cuda",
    pages: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Pages of 64 tokens to move; 1, 16 and 128 if none."),
    ] = None,
    rounds: RoundsOption = 5,
    host_memory: Annotated[
        int, typer.Option(min=0, metavar="GIB", help="Also time page-locked memory of this size.")
    ] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw bars against the ceiling, as SVG."),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Time transfers on a GPU against a pinned copy of as many bytes, in the same run.

    Of every pool: each layout and backend, to the host and back layer by layer, both at once, and
    by torch's operations alone. Also how much longer matrix products take meanwhile, a pass of
    them that waits for each layer, and the kernels of sgl_kernel where that is installed.
    """
    # These import torch, which takes longer than the other commands do.
    from tools.bench.transfer.plot import draw_speeds
    from tools.bench.transfer.pools import POOLS
    from tools.bench.transfer.report import speed_lines
    from tools.bench.transfer.run import bench_transfers

    options.start_session(context, target="native")
    report = bench_transfers(
        pools or tuple(POOLS),
        device=options.parse_device(device),
        page_counts=pages or (1, 16, 128),
        rounds=rounds,
        host_gigabytes=host_memory,
    )
    if plot is not None:
        plot.write_text(draw_speeds(report), encoding="utf-8")
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    print("\n".join(speed_lines(report)))


@bench.command("tree")
def measure_trees(
    context: typer.Context,
    *,
    side: Annotated[
        str, typer.Option("--side", metavar="SIDE", help="The sglang to compare with.")
    ] = "pypi:0.5.23",
    page_size: Annotated[int, typer.Option(min=1, help="Tokens of a page.")] = 1,
    requests: Annotated[int, typer.Option(min=4, help="Requests of each workload.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the requests.")] = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Time match and insert of our radix tree against that of a release of sglang.

    Both run in turns in one process on random prefixes, shared prompts and conversations. Ratios
    are ours over the release's, growth is the power of the number of requests.
    """
    session = options.start_session(context, target="sglang")
    release = options.parse_code_side(session, side, option="--side", python=None)
    with prepare_side(release, root=session.root) as prepared:
        figures = bench_trees(prepared, page_size=page_size, requests=requests, seed=seed)
    _print_figures(figures, as_json=as_json)


@bench.command("selection")
def prove(
    context: typer.Context,
    *,
    target: options.TargetOption = "native",
    side: options.SideOption = None,
    device: options.DeviceOption = "auto",
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="Mutants.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Run on random mutants what the gate would not run; exit 1 when a trace differs."""
    # LibCST is optional: only this command needs it.
    from tools.bench.selection import prove_selection

    session = options.start_session(context, target=target)
    found = prove_selection(
        session,
        options.parse_code_side(session, side, option="--side", python=None),
        device=options.parse_device(device),
        sample=sample,
        seed=seed,
    )
    _print_figures(found, as_json=as_json)
    raise typer.Exit(1 if found["runs_lost"] else 0)


def _select(session: Session, names: list[str] | None) -> list[Scenario]:
    scenarios = list(session.select(names).scenarios)
    if not scenarios:
        raise no_scenario_error()
    return scenarios


def _print_figures(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, number in found.items():
        shown = f"{number:.3f}" if isinstance(number, float) else str(number)
        print(f"{name.replace('_', ' '):<{width}}  {shown:>10}")
