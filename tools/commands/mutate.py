"""The ``mutate`` command: measure which small faults the gate sees, and its false alarms."""

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.console import print_duration
from tools.errors import ToolError
from tools.sides.prepare import prepare_side
from tools.sides.targets import NATIVE, select_scenarios

SCENARIO_LIMIT_SECONDS = 60.0
FORMATS = ("text", "json", "markdown")


def _parse_form(text: str) -> str:
    if text not in FORMATS:
        raise ToolError("--format", "must be known", expected=", ".join(FORMATS), got=repr(text))
    return text


OperatorOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--operator",
        metavar="NAME",
        help="Only this operator, or `generic` for the generic ones; may be repeated.",
    ),
]
KindOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="NAME|all",
        help="Faults of this kind wherever the code has a place for one; may be repeated.",
    ),
]
FileOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--file", metavar="PART", help="Only mutants of paths with this part; may be repeated."
    ),
]
SampleOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only so many mutants, drawn with --seed.")
]
MostOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--most", min=1, metavar="N", help="Scenarios a mutant is run on; all that execute it."
    ),
]
SeedOption: TypeAlias = Annotated[int, typer.Option(help="Of samples and of neutral stacks.")]
NeutralOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, metavar="STACKS", help="Run random stacks of harmless refactors."),
]
JournalOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", help="Results as they come; a re-run goes on."),
]
WorkersOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Worker processes; one for each core.")
]
RayOption: TypeAlias = Annotated[
    str | None, typer.Option("--ray", metavar="local|ADDRESS", help="Spread over a Ray cluster.")
]
ReportFormatOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--format", parser=_parse_form, metavar="|".join(FORMATS), help="Form of the report."
    ),
]
RunDeviceOption: TypeAlias = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="Run everything on this device.")
]


def mutate(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    operator: OperatorOption = None,
    kind: KindOption = None,
    file: FileOption = None,
    sample: SampleOption = None,
    most: MostOption = None,
    seed: SeedOption = 0,
    neutral: NeutralOption = None,
    journal: JournalOption = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    target: options.TargetOption = NATIVE,
    side: options.SideOption = None,
    python: options.PythonOption = None,
    form: ReportFormatOption = "text",
    device: RunDeviceOption = None,
    timeout: options.TimeoutOption = SCENARIO_LIMIT_SECONDS,
) -> None:
    """Measure the gate with mutants: each has one small fault of the kind that refactors make.

    A mutant is run on the scenarios that execute it, and killed by the gate's own comparison with
    the unchanged code. Exit 1 when a survivor is not explained in tools/mutation/survivors.toml.
    With --neutral, random stacks of harmless refactors are judged: any alarm is a false one. With
    scenarios named, only these are run, and what they do not execute is not mutated by --kind.
    """
    # LibCST is optional: only this command needs it.
    from tools.mutation.report.render import MutationReportFormat
    from tools.mutation.run import MutationRequest, run_mutation

    session = options.start_session(context, target=target, limit_seconds=timeout)
    selected = select_scenarios(names, known=session.scenarios)
    parsed = options.parse_code_side(session, side, option="--side", python=python)
    request = MutationRequest(
        root=session.root,
        target=target,
        side=parsed.text,
        scenarios={name: session.scenarios[name] for name in selected.names},
        operators=tuple(operator or ()),
        kinds=tuple(kind or ()),
        file_parts=tuple(file or ()),
        sample=sample,
        seed=seed,
        scenarios_max=most,
        neutral=neutral,
        device=None if device is None else options.parse_device(device),
        limit_seconds=timeout,
        journal=journal,
        ray=ray,
        workers=workers,
        form=MutationReportFormat(form),
    )
    with print_duration(), prepare_side(parsed, root=session.root) as place:
        code, report = run_mutation(request, place)
    sys.stdout.write(report)
    raise typer.Exit(code)
