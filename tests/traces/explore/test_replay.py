import json

import pytest

from traces.errors import TraceFormatError
from traces.explore import TrafficReplay, parse_replay, render_replay
from traces.explore.replay import describe_replay
from traces.explore.steps import Backup, CheckWrites, Insert
from traces.targets.native.scenarios import registry, scenario_of_config

NAME = next(iter(registry()))


def replay(**changes):
    values = {
        "scenario": NAME,
        "config": registry()[NAME].config,
        "seed": 7,
        "policy": "latest",
        "steps": (Insert(node=0, pages=2), Backup(node=0), CheckWrites(wait=True)),
        "invariant": "conflicting accesses are ordered",
        "message": "one\ntwo",
    }
    return TrafficReplay(**{**values, **changes})


def test_replay_survives_its_file():
    assert (
        parse_replay(render_replay(replay()), name="file", scenario_of=scenario_of_config)
        == replay()
    )


def test_file_names_schema_and_steps():
    written = json.loads(render_replay(replay()))

    assert written["schema"] == "goldentrace.replay/1"
    assert written["steps"] == [
        {"do": "insert", "node": 0, "pages": 2},
        {"do": "backup", "node": 0},
        {"do": "check writes", "wait": True},
    ]


def test_case_is_rebuilt_from_the_file_alone():
    case = parse_replay(render_replay(replay()), name="file", scenario_of=scenario_of_config)
    case = case.traffic_config(scenario_of_config)

    assert (case.scenario, case.seed, case.policy) == (registry()[NAME], 7, "latest")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"schema": "goldentrace.replay/2"}, "file: must be a replay"),
        ({"policy": "never"}, "file: policy must be known"),
        ({"config": {"builder": "b"}}, "file: must have every axis"),
        ({"config": {**registry()[NAME].config, "model": "m"}}, "file: model must be known"),
        ({"steps": [{"do": "explode"}]}, "file: must be a replay"),
        ({"steps": [{"do": "backup", "node": "x"}]}, "file: must be a replay"),
        ({"surplus": 1}, "file: must be a replay"),
    ],
)
def test_what_is_no_replay_is_refused_in_one_line(changes, rule):
    written = {**json.loads(render_replay(replay())), **changes}

    with pytest.raises(TraceFormatError) as caught:
        parse_replay(json.dumps(written), name="file", scenario_of=scenario_of_config)

    assert str(caught.value).startswith(rule)
    assert "\n" not in str(caught.value)


def test_description_is_one_block():
    assert describe_replay(replay()).splitlines() == [
        f"{NAME} (seed 7, policy latest)",
        "    1 insert node=0 pages=2",
        "    2 backup node=0",
        "    3 check writes wait=True",
        "  violated: conflicting accesses are ordered",
        "    one",
        "    two",
    ]
