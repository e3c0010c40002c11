"""When the gate looks again, at which scenario, and what it says when it cannot."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "traces" / "fake"))
from twosided_stack import PACKAGE, SOURCE, Version, effect

from tools.errors import ToolError
from tools.gate.refine import RefineContext, refine_causes
from tools.sides.environments.cache import PreparedSide
from tools.sides.open import OpenSide
from tools.sides.parse import Side
from tools.sides.targets import NATIVE, SGLANG
from traces.schema.verdict import Level

FAULT = ("row_bytes(width, 2)", "row_bytes(width, 3)")


@pytest.fixture(autouse=True)
def small_package(monkeypatch):
    """Every target's code lies in the folder of the small package."""
    targets = dict.fromkeys((NATIVE, SGLANG), SimpleNamespace(package=PACKAGE))
    monkeypatch.setattr("tools.gate.refine.TARGETS", targets)


class ReplayingPool:
    """Replays a version of the small package, whatever the scenario."""

    def __init__(self, version):
        self.version, self.asked, self.last_steps = version, [], []

    def call(self, task):
        self.asked.append((task.scenario, task.device))
        self.last_steps.append(task.last_step)
        if self.version is None:
            raise ToolError(task.scenario, "must be real", expected="code", got="a script")
        return self.version._played(task.request)


def side(kind, release):
    return Side(kind=kind, text=kind, commit="", release=release, place=None)


def recording(size, *, end):
    """A recording of a build and of a load; ``end`` is what the load records."""
    calls = [SimpleNamespace(step="build", value=0)] * size
    load, reset = SimpleNamespace(step="load", value=end), SimpleNamespace(step="reset", value=0)
    trace = SimpleNamespace(calls=[*calls, load, reset], events=[], digests=[])
    return SimpleNamespace(trace=trace)


@pytest.fixture
def context(tmp_path):
    """Return both sides: scenarios small and large; the base has 2 bytes, the head 3."""

    def seen(
        *,
        base="worktree",
        target="native",
        can_replay=True,
        releases=("", ""),
        ends=(0, 0),
        fault=FAULT,
    ):
        tmp = tmp_path / str(len(list(tmp_path.iterdir())))
        versions = [
            Version(tmp / "base", SOURCE),
            Version(tmp / "head", SOURCE.replace(*fault)),
        ]
        pools = [ReplayingPool(version if can_replay else None) for version in versions]
        opened = [
            OpenSide(side=side("dir", ""), prepared=PreparedSide(root=version.root), pool=pool)
            for version, pool in zip(versions, pools, strict=True)
        ]
        sizes = {"large": 9, "small": 1}
        recordings = [
            {name: recording(size, end=end) for name, size in sizes.items()} for end in ends
        ]
        request = SimpleNamespace(
            session=SimpleNamespace(root=tmp, target=target),
            device="auto",
            base=side(base, releases[0]),
            head=side("worktree", releases[1]),
            selection=SimpleNamespace(known={name: name for name in sizes}),
            attribute_seconds=None,
        )
        found = RefineContext(
            request=request,
            base=None if base == "golden" else opened[0],
            head=opened[1],
            recordings=tuple(recordings),
        )
        return found, pools

    return seen


def test_effect_is_looked_at_in_its_smallest_scenario(context):
    seen, pools = context()
    [cause], notes = refine_causes([effect(scenarios=("large", "small"))], seen)
    assert (cause.callee, cause.parameter) == ("row_bytes", "size")
    assert cause.scenarios == ("large", "small")
    assert {name for name, _ in pools[0].asked} == {"small"}
    assert notes == ()


def test_our_own_code_is_looked_at_eagerly_first(context):
    seen, pools = context()
    refine_causes([effect(scenarios=("small",))], seen)
    assert {device for _, device in pools[0].asked} == {"cpu"}


def test_the_run_ends_behind_the_first_step_that_differs(context):
    seen, pools = context(ends=(1, 2))
    [cause], _ = refine_causes([effect(scenarios=("small",))], seen)
    assert cause.parameter == "size"
    assert {step for pool in pools for step in pool.last_steps} == {"load"}
    assert {device for _, device in pools[0].asked} == {"cpu"}


def test_the_whole_scenario_is_run_where_the_first_steps_show_nothing(context):
    seen, pools = context(ends=(1, 2), fault=("row_bytes", "row_bytes"))
    causes = [effect(scenarios=("small",))]
    assert refine_causes(causes, seen) == (tuple(causes), ())
    assert pools[0].last_steps == ["load", "load", "", ""]
    assert [device for _, device in pools[0].asked] == ["cpu", "auto"] * 2


def test_difference_of_the_interface_is_not_looked_at(context):
    seen, pools = context()
    causes = [effect(scenarios=("small",), level=Level.INTERFACE)]
    assert refine_causes(causes, seen) == (tuple(causes), ())
    assert pools[0].asked == []


def test_nothing_is_looked_at_between_releases(context):
    seen, pools = context(target="sglang", releases=("0.5.11", "0.5.12"))
    causes = [effect(scenarios=("small",))]
    assert refine_causes(causes, seen) == (tuple(causes), ())
    assert pools[0].asked == []


def test_package_of_one_release_is_looked_at_on_its_own_device(context):
    seen, pools = context(target="sglang", releases=("0.5.12", "0.5.12"))
    [cause], _ = refine_causes([effect(scenarios=("small",))], seen)
    assert cause.parameter == "size"
    assert {device for _, device in pools[0].asked} == {"auto"}


def test_second_cause_is_looked_at_where_the_first_does_not_show(context):
    seen, pools = context()
    causes = [
        effect(scenarios=("small",)),
        effect(scenarios=("large", "small"), where="host.KV in backup"),
    ]
    found, _ = refine_causes(causes, seen)
    assert [cause.parameter for cause in found] == ["size", "size"]
    assert {name for name, _ in pools[0].asked} == {"small", "large"}


def test_side_that_cannot_be_run_again_leaves_causes_and_a_note(context):
    seen, _ = context(can_replay=False)
    causes = [effect(scenarios=("small",))]
    found, [note] = refine_causes(causes, seen)
    assert found == tuple(causes)
    assert note.startswith("first causes are as the traces show them: small: must be real")


def test_golden_without_code_that_yields_it_leaves_causes_and_a_note(context):
    seen, _ = context(base="golden")
    causes = [effect(scenarios=("small",))]
    found, [note] = refine_causes(causes, seen)
    assert found == tuple(causes)
    assert "must have code that yields it" in note
