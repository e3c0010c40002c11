"""When the gate looks again, at which scenario, and what it says when it cannot."""

import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "traces" / "fake"))
from twosided_stack import SOURCE, Version, effect

from tools.errors import ToolError
from tools.looking import Sight, looked_again
from tools.sides import Side
from traces.verdict import Level

FAULT = ("row_bytes(width, 2)", "row_bytes(width, 3)")


class ReplayingTroupe:
    """Replays a version of the small package, whatever the scenario."""

    def __init__(self, version):
        self.version, self.asked = version, []

    def replay(self, scenario, *, device, call):
        self.asked.append((scenario, device))
        if self.version is None:
            raise ToolError(scenario, "must be real", expected="code", got="a script")
        return self.version._played(call)


def side(kind, release):
    return Side(kind=kind, text=kind, commit="", release=release, place=None)


@pytest.fixture
def sight(tmp_path, monkeypatch):
    """Return what can be looked at: small, then large; the base has 2 bytes, the head 3."""

    def seen(*, base="worktree", target="native", can_replay=True, releases=("", "")):
        tmp = tmp_path / str(len(list(tmp_path.iterdir())))
        versions = [
            Version(tmp / "base", SOURCE),
            Version(tmp / "head", SOURCE.replace(*FAULT)),
        ]
        troupes = [ReplayingTroupe(version if can_replay else None) for version in versions]
        waiting, places = iter(troupes), iter(versions)

        @contextmanager
        def standing(_side, *, root, python):
            yield SimpleNamespace(root=next(places).root)

        monkeypatch.setattr("tools.looking.standing", standing)

        @contextmanager
        def opened(_place):
            yield next(waiting)

        sizes = {"large": 9, "small": 1}
        recordings = {
            name: SimpleNamespace(trace=SimpleNamespace(calls=[0] * size, events=[]))
            for name, size in sizes.items()
        }
        case = SimpleNamespace(
            root=tmp,
            target=target,
            python=None,
            device="auto",
            base=side(base, releases[0]),
            head=side("worktree", releases[1]),
            scenarios={name: name for name in sizes},
        )
        found = Sight(case=case, recordings=(recordings, recordings), open_troupe=opened)
        return found, troupes

    return seen


def test_effect_is_looked_at_in_its_smallest_scenario(sight):
    seen, troupes = sight()
    [cause], notes = looked_again([effect(scenarios=("large", "small"))], seen)
    assert (cause.callee, cause.parameter) == ("row_bytes", "size")
    assert cause.scenarios == ("large", "small")
    assert {name for name, _ in troupes[0].asked} == {"small"}
    assert notes == ()


def test_our_own_code_is_looked_at_eagerly_first(sight):
    seen, troupes = sight()
    looked_again([effect(scenarios=("small",))], seen)
    assert {device for _, device in troupes[0].asked} == {"cpu"}


def test_difference_of_the_interface_is_not_looked_at(sight):
    seen, troupes = sight()
    causes = [effect(scenarios=("small",), level=Level.INTERFACE)]
    assert looked_again(causes, seen) == (tuple(causes), ())
    assert troupes[0].asked == []


def test_nothing_is_looked_at_between_releases(sight):
    seen, troupes = sight(target="sglang", releases=("0.5.11", "0.5.12"))
    causes = [effect(scenarios=("small",))]
    assert looked_again(causes, seen) == (tuple(causes), ())
    assert troupes[0].asked == []


def test_package_of_one_release_is_looked_at_on_its_own_device(sight):
    seen, troupes = sight(target="sglang", releases=("0.5.12", "0.5.12"))
    [cause], _ = looked_again([effect(scenarios=("small",))], seen)
    assert cause.parameter == "size"
    assert {device for _, device in troupes[0].asked} == {"auto"}


def test_second_cause_is_looked_at_where_the_first_does_not_show(sight):
    seen, troupes = sight()
    causes = [
        effect(scenarios=("small",)),
        effect(scenarios=("large", "small"), where="host.KV in backup"),
    ]
    found, _ = looked_again(causes, seen)
    assert [cause.parameter for cause in found] == ["size", "size"]
    assert {name for name, _ in troupes[0].asked} == {"small", "large"}


def test_side_that_cannot_be_played_again_leaves_causes_and_a_note(sight):
    seen, _ = sight(can_replay=False)
    causes = [effect(scenarios=("small",))]
    found, [note] = looked_again(causes, seen)
    assert found == tuple(causes)
    assert note.startswith("first causes are as the traces show them: small: must be real")


def test_golden_without_code_that_plays_it_leaves_causes_and_a_note(sight):
    seen, _ = sight(base="golden")
    causes = [effect(scenarios=("small",))]
    found, [note] = looked_again(causes, seen)
    assert found == tuple(causes)
    assert "must have code that plays it" in note
