"""The ``record`` command: run scenarios and write their traces."""

from pathlib import Path

import typer

from tools import options
from tools.console import print_duration, print_status
from tools.gate.trace_files import require_writable, write_traces
from tools.sides.results import no_scenario_error
from tools.workers.results import unplayable_notes


def record(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    side: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    device: options.DeviceOption = "auto",
    out: options.OutOption = Path(".goldentrace/traces"),
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Run scenarios and write their traces.

    The source lines that the records come from are written beside each trace.
    """
    session = options.start_session(context, target=target, limit_seconds=timeout)
    scenarios = session.select(names).scenarios
    parsed = options.parse_code_side(session, side, option="--side", python=python)
    used_device = options.parse_device(device)
    require_writable(out)
    with print_duration(), session.open_side(parsed) as opened:
        results = opened.run(scenarios, device=used_device, lists_builders=False)
    if results.problems:
        for problem in results.problems:
            print_status(problem)
        raise typer.Exit(2)
    for note in unplayable_notes(parsed.text, results.unplayable):
        print_status(f"note: {note}")
    if not results.recordings:
        raise no_scenario_error()
    for path in write_traces(results.recordings, folder=out):
        print(path)
