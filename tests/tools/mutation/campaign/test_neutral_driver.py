"""Which files and scenarios a stack of refactors of a release gets."""

from pathlib import Path

from tools.mutation.campaign.driver import BaselineRun, CampaignPlan
from tools.mutation.campaign.neutral_driver import stack_of_seed
from tools.mutation.campaign.tasks import BaselineResult, RunSettings

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
