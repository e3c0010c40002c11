"""When a mutant counts as killed, loud, surviving or equivalent."""

import msgspec
import pytest

from tools.mutation.mutant import LineRange, Mutant
from tools.mutation.worker.mutant_run import SCENARIOS_AFTER_KILL, MutantRun, ScenarioOutcome
from traces.schema.model import Location
from traces.schema.verdict import Cause, Kind, Level

MUTANT = Mutant(
    id="1",
    operator="drop_keyword",
    key="a.py build Pool width",
    changed_ranges=(LineRange(file="a.py", first=7, last=11),),
    functions=(LineRange(file="a.py", first=1, last=20),),
    parameters=("width",),
    texts={},
    is_equivalent=False,
)
CAUSE = Cause(
    kind=Kind.ARGUMENT_DROPPED,
    level=Level.BEHAVIOUR,
    builder="build",
    callee="Pool",
    parameter="width",
    before=656,
    after=None,
    location=Location(file="a.py", line=7),
    scenarios=("s",),
    consequences=(),
    where="",
    path=(),
    variants=(),
    count=1,
    message="",
    rank=(0, 0),
)


def as_it_is(_scenario, cause):
    return cause


def result(*outcomes, refine=as_it_is, is_gate=False):
    named = ((f"s{number}", outcome) for number, outcome in enumerate(outcomes))
    return MutantRun(MUTANT, refine=refine, is_gate=is_gate).collect(named)


KILL = ScenarioOutcome(causes=(CAUSE,), fields=("calls.arguments.value", "tensors.shape"))
SAME = ScenarioOutcome(same_state=True)
OTHER = ScenarioOutcome(other_state=True)
UNREADABLE = ScenarioOutcome()


def test_difference_of_behaviour_kills():
    found = result(SAME, KILL, KILL)
    assert (found.verdict, found.scenario, found.played) == ("killed", "s1", 2)
    assert (found.right_line, found.right_parameter, found.right_function) == (True, True, True)


def test_difference_of_the_interface_does_not():
    weak = msgspec.structs.replace(CAUSE, level=Level.INTERFACE)
    assert result(ScenarioOutcome(causes=(weak,), same_state=False)).verdict == "survived"


@pytest.mark.parametrize(
    ("change", "line", "function", "parameter"),
    [
        ({"parameter": "size"}, True, True, False),
        ({"parameter": "args.width"}, True, True, True),
        ({"location": Location(file="a.py", line=12)}, False, True, True),
        ({"location": Location(file="b.py", line=7)}, False, False, True),
        ({"location": None}, False, False, True),
    ],
)
def test_first_cause_is_right(change, line, function, parameter):
    cause = msgspec.structs.replace(CAUSE, **change)
    found = result(msgspec.structs.replace(KILL, causes=(cause,)))
    assert (found.right_line, found.right_function, found.right_parameter) == (
        line,
        function,
        parameter,
    )


def test_nothing_differs_anywhere_and_the_state_is_the_same():
    found = result(SAME, SAME)
    assert (found.verdict, found.proof) == ("equivalent", "state")


def test_state_that_cannot_be_read_is_no_proof():
    found = result(SAME, UNREADABLE, SAME)
    assert (found.verdict, found.proof) == ("survived", "")


def test_another_state_is_no_proof():
    found = result(SAME, OTHER)
    assert (found.verdict, found.proof) == ("survived", "s1")


def test_what_never_runs_to_the_end_is_loud():
    crash = ScenarioOutcome(new_failure="PoolError: no", causes=(CAUSE,))
    assert result(crash, SAME).verdict == "loud"
    assert result(crash, KILL).verdict == "killed"
    assert result(ScenarioOutcome(raised="died: copy"), SAME).headline == "died: copy"


def test_type_error_is_loud_at_once():
    found = result(ScenarioOutcome(new_failure="TypeError: missing 1 required"), KILL)
    assert (found.verdict, found.played) == ("loud", 1)


def test_lone_field_is_looked_for_in_more_scenarios():
    lone = msgspec.structs.replace(KILL, fields=("calls.arguments.value",))
    assert result(lone, lone, KILL, KILL).fields == (
        "calls.arguments.value",
        "tensors.shape",
    )
    assert result(*[lone] * 6).played == 1 + SCENARIOS_AFTER_KILL


def test_second_look_decides_what_the_first_cause_is():
    effect = msgspec.structs.replace(CAUSE, kind=Kind.DIGEST_CHANGED, parameter=None, where="KV")
    shown = ScenarioOutcome(causes=(effect,), fields=("digests.sha256",))
    asked = []

    def refine(scenario, cause):
        asked.append((scenario, cause))
        return CAUSE

    found = result(SAME, shown, refine=refine)
    assert asked == [("s1", effect)]
    assert (found.right_parameter, found.cause) == (True, "argument_dropped")
    assert found.look == effect.headline()
    assert not result(SAME, shown).right_parameter
    assert result(SAME, shown).look == ""


def test_second_look_that_fails_leaves_the_first_cause():
    def refine(_scenario, _cause):
        raise RuntimeError("no copy")

    found = result(KILL, refine=refine)
    assert (found.verdict, found.right_parameter) == ("killed", True)
    assert found.look == "failed: RuntimeError: no copy"


def test_judged_as_the_gate_does_a_new_error_kills_and_every_scenario_is_run():
    crash = ScenarioOutcome(new_failure="TypeError: no", causes=(CAUSE,))
    found = result(crash, SAME, SAME, is_gate=True)
    assert (found.verdict, found.scenario, found.played) == ("killed", "s0", 3)
    assert found.problem == ""
    assert result(SAME, OTHER, is_gate=True).verdict == "survived"


def test_judged_as_the_gate_does_a_scenario_without_a_trace_is_told_beside_the_kill():
    lost = ScenarioOutcome(raised="StageError: signal SIGALRM")
    assert result(SAME, lost, is_gate=True).verdict == "unjudged"
    found = result(KILL, lost, is_gate=True)
    assert (found.verdict, found.problem) == ("killed", "StageError: signal SIGALRM")
    assert result(KILL, lost).problem == ""
