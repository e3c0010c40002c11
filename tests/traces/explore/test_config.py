from traces.explore import POLICIES, draw_config
from traces.simulator import SchedulePolicy
from traces.targets.native.scenarios import BUILDERS, registry


def cases(builder, *, seed=0, policies=POLICIES):
    return [
        draw_config(scenarios=registry(), builder=builder, seed=seed, run=run, policies=policies)
        for run in range(40)
    ]


def test_policies_are_those_of_the_simulated_device():
    assert set(POLICIES) == set(SchedulePolicy)


def test_runs_differ_and_are_the_builders_own():
    found = cases("build_kv_only_stack")

    assert len({case.seed for case in found}) == 40
    assert len({case.scenario.name for case in found}) > 5
    assert {case.policy for case in found} == set(POLICIES)
    assert {case.scenario.builder for case in found} == {"build_kv_only_stack"}


def test_same_seed_gives_the_same_cases_and_another_seed_others():
    for builder in BUILDERS:
        assert cases(builder) == cases(builder)
        assert cases(builder) != cases(builder, seed=1)


def test_first_case_is_a_literal():
    first = cases("build_kv_only_stack", policies=("latest",))[0]

    assert (first.policy, first.seed) == ("latest", 1900442034)
