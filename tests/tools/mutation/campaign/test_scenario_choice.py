"""Scenarios that a mutant is run on: those that execute other lines than the ones chosen before."""

from tools.mutation.campaign.scenario_choice import ScenarioChoice
from tools.mutation.campaign.tasks import BaselineResult
from tools.mutation.mutant import LineRange, Mutant

MUTANT = Mutant(
    id="1",
    operator="shorten_clamp",
    key="pool.py get",
    changed_ranges=(LineRange(file="pool.py", first=12, last=12),),
    functions=(LineRange(file="pool.py", first=10, last=20),),
    texts={},
)
REACHED = {
    "first": {"pool.py": {12, 13}},
    "like_the_first": {"pool.py": {12, 13}},
    "other_files": {"pool.py": {12, 13}, "tree.py": {*range(1, 60)}},
    "other_functions": {"pool.py": {12, 13, *range(30, 40)}},
    "other_branch": {"pool.py": {12, 15}},
}
RESULTS = {
    name: BaselineResult(
        name=name, reached={file: frozenset(lines) for file, lines in reached.items()}
    )
    for name, reached in REACHED.items()
}


def choose(scenarios_max):
    return ScenarioChoice(RESULTS).choose(MUTANT, tuple(RESULTS), scenarios_max=scenarios_max)


def test_other_lines_of_the_function_come_before_other_functions_and_those_before_other_files():
    assert choose(4) == ("first", "other_branch", "other_functions", "other_files")


def test_what_adds_nothing_comes_last():
    assert ScenarioChoice(RESULTS).choose(
        MUTANT, ("like_the_first", "first", "other_branch"), scenarios_max=2
    ) == ("like_the_first", "other_branch")


def test_all_are_run_in_their_order_when_there_is_room():
    """Control: the order to run them is that of their costs."""
    assert choose(5) == choose(None) == tuple(RESULTS)


def test_scenarios_that_all_execute_the_same_are_taken_in_their_order():
    same = dict.fromkeys(("a", "b", "c"), RESULTS["first"])
    assert ScenarioChoice(same).choose(MUTANT, ("a", "b", "c"), scenarios_max=2) == ("a", "b")


def test_a_mutant_of_a_file_that_no_scenario_executes_is_no_error():
    results = {name: BaselineResult(name=name, reached={}) for name in ("a", "b")}
    assert ScenarioChoice(results).choose(MUTANT, ("a", "b"), scenarios_max=1) == ("a",)
