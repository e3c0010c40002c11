"""``bench gate``, ``bench recorder`` and ``bench devices``: what the net costs."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import typer

from tools.bench.ratios import bench_devices, bench_gate, bench_recorder
from tools.errors import ToolError
from tools.goldens.files import select_scenarios
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    DeviceOption,
    JsonOption,
    ScenarioNames,
    TargetOption,
    require_native,
    session_factory,
)
from tools.session import parse_device
from traces.targets.common.scenario import Scenario

RoundsOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Repetitions; medians are shown.")
]

bench = typer.Typer(name="bench", help="Throughput and overhead, as ratios.", rich_markup_mode=None)


@bench.command("gate")
def measure_gate(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    target: TargetOption = "native",
    device: DeviceOption = "auto",
    rounds: RoundsOption = 3,
    as_json: JsonOption = False,
) -> None:
    """Time the whole gate against the bare playing of the same scenarios."""
    require_native(target)
    desk = session_factory(context)(target=target, limit_seconds=DEFAULT_LIMIT_SECONDS)
    found = bench_gate(
        desk.root,
        scenarios=_select(names, known=desk.scenarios),
        device=parse_device(device),
        rounds=rounds,
        arguments=names or [],
    )
    _print_figures(found, as_json=as_json)


@bench.command("recorder")
def measure_recorder(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    target: TargetOption = "native",
    device: DeviceOption = "auto",
    rounds: RoundsOption = 3,
    as_json: JsonOption = False,
) -> None:
    """Time recording against not recording, and how encoding and diffing grow.

    Without names the first scenario of every builder is played.
    """
    require_native(target)
    desk = session_factory(context)(target=target, limit_seconds=DEFAULT_LIMIT_SECONDS)
    scenarios = _select(names, known=desk.scenarios)
    if not names:
        scenarios = list({one.builder: one for one in reversed(scenarios)}.values())
    found = bench_recorder(scenarios=scenarios, device=parse_device(device), rounds=rounds)
    _print_figures(found, as_json=as_json)


@bench.command("devices")
def measure_devices(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    rounds: RoundsOption = 3,
    as_json: JsonOption = False,
) -> None:
    """Time the simulated accelerator against the eager CPU device, over all scenarios."""
    desk = session_factory(context)(target="native", limit_seconds=DEFAULT_LIMIT_SECONDS)
    scenarios = _select(names, known=desk.scenarios)
    _print_figures(bench_devices(scenarios=scenarios, rounds=rounds), as_json=as_json)


def _select(names: list[str] | None, *, known: Mapping[str, Scenario]) -> list[Scenario]:
    wanted = select_scenarios(names or [], known=known)
    if not wanted:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    return [known[name] for name in wanted]


def _print_figures(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, number in found.items():
        shown = f"{number:.3f}" if isinstance(number, float) else str(number)
        print(f"{name.replace('_', ' '):<{width}}  {shown:>10}")
