import json

import msgspec
import pytest

from traces.schema.model import Location
from traces.schema.verdict import Cause, Consequence, Kind, Level, ScenarioCounts, Verdict

CAUSE = Cause(
    kind=Kind.ARGUMENT_DROPPED,
    level=Level.BEHAVIOUR,
    builder="build_shared_anchor_stack",
    callee="MLATokenToKVPoolHost",
    parameter="override_kv_cache_dim",
    before=656,
    after=None,
    location=Location(file="assembler/stacks/attach.py", line=123),
    scenarios=("nsa_fp8",),
    consequences=(
        Consequence(
            kind=Kind.SHAPE_CHANGED,
            where="host.KV.kv_buffer",
            before=[2, 320, 1, 656],
            after=[2, 320, 1, 576],
            level=Level.BEHAVIOUR,
            count=1,
        ),
    ),
    where="",
    path=("build_shared_anchor_stack", "MLATokenToKVPoolHost"),
    variants=(),
    count=1,
    message="",
    rank=(0, 7),
)


def with_fields(**fields):
    return msgspec.structs.replace(CAUSE, **fields)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {},
            (
                "argument_dropped: override_kv_cache_dim 656 -> nothing, in "
                "build_shared_anchor_stack -> MLATokenToKVPoolHost "
                "(assembler/stacks/attach.py:123), "
                "1 scenario"
            ),
        ),
        (
            {"location": None, "scenarios": ("a", "b")},
            (
                "argument_dropped: override_kv_cache_dim 656 -> nothing, in "
                "build_shared_anchor_stack -> MLATokenToKVPoolHost, 2 scenarios"
            ),
        ),
        (
            {"kind": Kind.ARGUMENT_CHANGED, "before": 1, "after": 1.0, "builder": None},
            (
                "argument_changed: override_kv_cache_dim 1 -> 1.0, in MLATokenToKVPoolHost "
                "(assembler/stacks/attach.py:123), 1 scenario"
            ),
        ),
        (
            {
                "kind": Kind.ORDER_EDGE_REMOVED,
                "builder": None,
                "callee": None,
                "parameter": None,
                "where": "wait load.layer3 on default in read",
                "before": {"name": "load.layer3"},
                "location": None,
            },
            (
                'order_edge_removed: wait load.layer3 on default in read {"name":"load.layer3"} -> '
                "nothing, 1 scenario"
            ),
        ),
        (
            {"kind": Kind.ARGUMENT_ADDED, "before": "x", "after": "x", "location": None},
            (
                'argument_added: override_kv_cache_dim still "x", in build_shared_anchor_stack -> '
                "MLATokenToKVPoolHost, 1 scenario"
            ),
        ),
    ],
)
def test_headline_says_what_and_where_in_one_line(fields, line):
    assert with_fields(**fields).headline() == line


def test_headline_shortens_long_values():
    line = with_fields(before="x" * 200).headline()

    assert '"' + "x" * 56 + "... -> nothing" in line


def test_levels_are_ordered_by_weight():
    assert [level.rank for level in Level] == [0, 1, 2]


def test_verdict_is_written_as_the_contract_says():
    verdict = Verdict(
        verdict="fail",
        target="native",
        base={"side": "golden"},
        head={"side": "worktree"},
        scenarios=ScenarioCounts(played=2, unchanged=1, changed=1, names_changed=("nsa_fp8",)),
        causes=(CAUSE,),
        problems=(),
    )

    text = verdict.to_json()
    written = json.loads(text)

    assert text.endswith("}\n")
    assert list(written) == [
        "schema",
        "verdict",
        "target",
        "base",
        "head",
        "scenarios",
        "causes",
        "problems",
        "selected",
        "kept",
        "selection",
    ]
    assert written["schema"] == "goldentrace.verdict/1"
    cause = written["causes"][0]
    assert cause["kind"] == "argument_dropped"
    assert cause["level"] == "behaviour"
    assert (cause["before"], cause["after"]) == (656, None)
    assert cause["location"] == {"file": "assembler/stacks/attach.py", "line": 123}
    assert cause["consequences"][0]["where"] == "host.KV.kv_buffer"
    assert msgspec.json.decode(text, type=Verdict) == verdict
