"""Which files and scenarios a stack of refactors of a release gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from tools.mutation.campaign.driver import BaselineRun, CampaignPlan
from tools.mutation.campaign.neutral_driver import measure_false_alarms, stack_of_seed
from tools.mutation.campaign.tasks import BaselineResult, NeutralStackResult, RunSettings
from tools.mutation.report.render import MutationReportFormat, render_false_alarms
from tools.workers.protocol import TaskReply

RESULTS = {
    name: BaselineResult(name=name, reached={file: frozenset({1}) for file in files})
    for name, files in (("s", ("a.py",)), ("t", ("b.py",)), ("u", ("a.py", "b.py")))
}
BASELINE = BaselineRun(results=RESULTS, unsupported={})


def plan(files_per_stack: int | None) -> CampaignPlan:
    return CampaignPlan(
        root=Path(),
        target="sglang",
        files=("a.py", "b.py", "never.py"),
        mutants=(),
        scenarios={},
        settings=RunSettings(device="auto", limit_seconds=1.0, is_gate=False),
        scenarios_max=None,
        files_per_stack=files_per_stack,
    )


def test_files_are_executed_ones_and_scenarios_execute_them():
    stacks = [stack_of_seed(plan(1), BASELINE, seed) for seed in range(20)]
    assert {stack.files for stack in stacks} == {("a.py",), ("b.py",)}
    for stack in stacks:
        expected = {"s", "u"} if stack.files == ("a.py",) else {"t", "u"}
        assert set(stack.names) == expected


def test_every_file_of_our_own_code_is_refactored():
    stack = stack_of_seed(plan(None), BASELINE, 0)
    assert stack.files == ("a.py", "b.py", "never.py")
    assert stack == stack_of_seed(plan(None), BASELINE, 0)


class Executor:
    """Finds an alarm in the second stack, and is interrupted behind ``most`` of them."""

    def __init__(self, most):
        self.most = most

    def broadcast(self, task):
        pass

    def results(self, tasks, *, tries):
        tasks = list(tasks)
        is_control = any(task.texts for task in tasks)
        for number, task in enumerate(tasks):
            if not is_control and len(tasks) > 1 and number == self.most:
                raise KeyboardInterrupt
            is_alarm = bool(task.texts) if is_control else number == 1
            yield TaskReply(
                number=number,
                task=task,
                seed=0,
                result=NeutralStackResult(
                    done=(("reformat", "a.py"),), differences=("lost",) if is_alarm else ()
                ),
            )


@pytest.mark.parametrize(
    ("most", "judged", "alarms", "head"),
    [
        (9, 4, 1, "4 stacks of harmless refactors, 4 refactors: 1 false alarm"),
        (3, 3, 1, "3 stacks of harmless refactors (of 4, interrupted), 3 refactors: 1 false alarm"),
        (1, 1, 0, "1 stack of harmless refactors (of 4, interrupted), 1 refactor: 0 false alarms"),
    ],
    ids=["whole", "interrupted", "interrupted before the alarm"],
)
def test_an_interrupt_ends_the_run_and_what_is_judged_counts(tmp_path, most, judged, alarms, head):
    for file in ("a.py", "b.py"):
        (tmp_path / file).write_text("pass\n")

    found = measure_false_alarms(
        replace(plan(1), root=tmp_path),
        Executor(most),
        baseline=BASELINE,
        seeds=range(4),
        on_finished=lambda name: None,
    )

    assert (found.asked, found.stacks, len(found.alarms)) == (4, judged, alarms)
    report = render_false_alarms(found, form=MutationReportFormat.TEXT)
    assert report.splitlines()[0] == head
