"""All rules together: each finding once, the worst first, with every scenario."""

from traces.audit import audit
from traces.audit.finding import finding_key


def test_a_finding_of_two_scenarios_is_one(made):
    trips = {name: made.recording(name, digests=[made.trip(wrong="64")]) for name in ("b", "a")}
    [found] = audit(trips, recorded={})
    assert found.scenarios == ("a", "b")
    assert (
        str(finding_key(found)) == "declared_not_assembled build_kv_only_stack: device.KV.kv_buffer"
    )
    assert [part.count for part in found.consequences] == [2]


def test_lost_bytes_come_before_parameters_that_nobody_watches(made):
    recording = made.recording(
        "a", made.call("Host#1", {"x": 1, "y": 1}), digests=[made.trip(wrong="64")]
    )
    kinds = [str(cause.kind) for cause in audit({"a": recording}, recorded={})]
    assert kinds == ["declared_not_assembled", "parameter_blind_spot", "parameter_blind_spot"]


def test_keys_hold_no_line(made):
    def keys(line):
        calls = (
            made.call("build_kv_only_stack#1", {"size": 8}, role="builder"),
            made.call("Host#1", {"x": 1, "y": 1}, parent="build_kv_only_stack#1", line=line),
        )
        found = audit({"a": made.recording("a", *calls)}, recorded={})
        return [str(finding_key(one)) for one in found]

    assert keys(3) == keys(300) == ["parameter_blind_spot Host.x", "parameter_blind_spot Host.y"]


def test_a_scenario_with_nothing_against_it_has_no_findings(made):
    recording = made.recording("a", digests=[made.trip()], events=[made.transfer()])
    assert audit({"a": recording}, recorded={}) == ()
