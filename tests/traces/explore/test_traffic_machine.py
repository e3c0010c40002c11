"""The machine against a toy subject: what is drawn, what is found, how it is shrunk."""

import pytest

from traces.explore import TrafficConfig, run_steps
from traces.explore.steps import Backup, Insert, LoadBack
from traces.explore.subject import BytesViolationError, QueueViolationError
from traces.explore.traffic_machine import find_violation
from traces.targets.native.scenarios import registry, scenario_of_config


class Toy:
    """Keeps nodes; a node that is loaded after its backup is said to come back wrong."""

    def __init__(self, case):
        self.seed = case.seed
        self.nodes = []
        self.backed_up = set()

    def live_nodes(self):
        return self.nodes

    def apply(self, step):
        match step:
            case Insert():
                self.nodes.append(step.node)
            case Backup() if step.node in self.nodes:
                self.backed_up.add(step.node)
            case LoadBack() if step.node in self.backed_up:
                raise BytesViolationError(f"node {step.node}")

    def finish(self):
        pass


class Sound(Toy):
    def apply(self, step):
        if not isinstance(step, LoadBack):
            super().apply(step)


class Leftover(Sound):
    def finish(self):
        if self.backed_up:
            raise QueueViolationError("left over")


def case(seed):
    return TrafficConfig(scenario=next(iter(registry().values())), seed=seed, policy="latest")


def first_found(subject):
    found = (
        find_violation(case(seed), open_subject=subject, step_num=20, shrinks=True)
        for seed in range(20)
    )
    return next(replay for replay in found if replay is not None)


def test_violation_is_shrunk_to_the_steps_it_needs():
    replay = first_found(Toy)

    [insert, backup, load] = replay.steps
    assert isinstance(insert, Insert)
    assert (backup, load) == (Backup(node=insert.node), LoadBack(node=insert.node))
    assert replay.invariant == "bytes served are the bytes written"
    assert replay.message == f"node {insert.node}"


def test_replay_needs_no_hypothesis_and_is_green_on_a_sound_subject():
    replay = first_found(Toy)

    violation = run_steps(replay.traffic_config(scenario_of_config), replay.steps, open_subject=Toy)
    assert (violation.invariant, str(violation)) == (replay.invariant, replay.message)
    assert (
        run_steps(replay.traffic_config(scenario_of_config), replay.steps, open_subject=Sound)
        is None
    )


def test_violation_at_the_end_is_found():
    replay = first_found(Leftover)

    assert replay.invariant == "queues drain and locks are released"
    assert [type(step) for step in replay.steps] == [Insert, Backup]


def test_sound_subject_is_never_accused():
    for seed in range(5):
        assert find_violation(case(seed), open_subject=Sound, step_num=20, shrinks=True) is None


@pytest.mark.parametrize("seed", range(3))
def test_same_seed_draws_the_same_steps(seed):
    seen = []

    class Noted(Sound):
        def __init__(self, case):
            super().__init__(case)
            self.steps = []
            seen.append(self.steps)

        def apply(self, step):
            self.steps.append(step)
            super().apply(step)

    for _ in range(2):
        find_violation(case(seed), open_subject=Noted, step_num=20, shrinks=True)

    first, second = seen
    assert first == second
    assert len(first) >= 10
