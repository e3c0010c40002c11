"""``goldentrace audit`` on a small checkout, and its findings in the gate."""

import json

import msgspec
import pytest

BLIND = "parameter_blind_spot MLATokenToKVPoolHost.layout"


@pytest.fixture
def blinded(checkout, make_trace):
    """Every scenario gives the host pool two arguments of one value; the goldens say so too."""
    for name in checkout.traces:
        trace = make_trace(name)
        builder, pool = trace.calls
        [width] = pool.arguments
        both = (width, msgspec.structs.replace(width, name="layout"))
        pool = msgspec.structs.replace(pool, arguments=both)
        trace = msgspec.structs.replace(trace, calls=(builder, pool))
        checkout.traces[name] = checkout.base_traces[name] = trace
        checkout.write_golden(trace)
    checkout.commit("HEAD declares nothing")


BOTH = (BLIND, "parameter_blind_spot MLATokenToKVPoolHost.override_kv_cache_dim")


def test_a_side_without_faults_passes(goldentrace, capsys):
    assert goldentrace("audit", "--format", "json") == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["verdict"] == "pass"
    assert verdict["head"] == {"side": "worktree"}
    assert verdict["scenarios"]["played"] == 2
    assert verdict["causes"] == []


def test_findings_fail_with_their_place(goldentrace, blinded, capsys):
    assert goldentrace("audit", "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["verdict"] == "fail"
    first = verdict["causes"][0]
    assert (first["kind"], first["where"], first["level"]) == (
        "parameter_blind_spot",
        "MLATokenToKVPoolHost.layout",
        "behaviour",
    )
    assert first["location"] == {"file": "assembler/stacks.py", "line": 123}
    assert first["scenarios"] == ["a", "b"]


def test_a_lost_row_is_found_without_a_golden(goldentrace, checkout, broken_trace, capsys):
    checkout.traces["a"] = broken_trace("a")
    assert goldentrace("audit") == 1
    assert "stale_after_restore  build_kv_only_stack: device.KV" in capsys.readouterr().out


def test_known_findings_pass_and_are_counted(goldentrace, checkout, blinded, capsys):
    checkout.write_baseline(*BOTH)
    assert goldentrace("audit") == 0
    assert "not shown: 2 known findings of traces/baseline/native.toml" in capsys.readouterr().err


def test_one_unknown_finding_beside_a_known_one_fails(goldentrace, checkout, blinded, capsys):
    checkout.write_baseline(BLIND)
    assert goldentrace("audit", "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert [cause["parameter"] for cause in verdict["causes"]] == ["override_kv_cache_dim"]


def test_a_known_finding_that_is_gone_fails(goldentrace, checkout, capsys):
    checkout.write_baseline(BLIND)
    assert goldentrace("audit", "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    [problem] = verdict["problems"]
    assert problem.startswith("traces/baseline/native.toml: a known finding must still be one; ")
    assert problem.endswith(f"expected it to be removed from the file, got {BLIND!r}")


def test_a_baseline_that_is_none_cannot_be_judged_by(goldentrace, checkout, capsys):
    checkout.write_baseline()
    path = checkout.root / "traces" / "baseline" / "native.toml"
    path.write_text("[findings]\n")
    assert goldentrace("audit") == 2
    assert "traces/baseline/native.toml: must have this schema" in capsys.readouterr().err


def test_keys_are_said_for_the_baseline(goldentrace, blinded, capsys):
    goldentrace("audit", "--keys")
    assert f"goldentrace: note: {BLIND}\n" in capsys.readouterr().err


def test_a_scenario_that_was_not_played_is_an_error(goldentrace, checkout, capsys):
    checkout.traces["a"] = "hangs"
    assert goldentrace("audit", "--format", "json") == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "error"


def test_a_builder_that_nothing_plays_is_a_finding(goldentrace, checkout, capsys):
    checkout.builders = ("build_kv_only_stack", "build_new_stack")
    assert goldentrace("audit", "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert [(cause["kind"], cause["builder"]) for cause in verdict["causes"]] == [
        ("uncovered_builder", "build_new_stack")
    ]


def test_the_matrix_has_a_line_for_each_parameter(goldentrace, blinded, capsys):
    assert goldentrace("audit", "--matrix") == 0
    assert capsys.readouterr().out == (
        "MLATokenToKVPoolHost\n"
        "  override_kv_cache_dim  non-default\n"
        "  layout                 non-default\n"
        "\n"
        "build_kv_only_stack\n"
        "  page_size              distinctive\n"
        "\n"
        "3 parameters: 0 never set, 0 default only, 2 non-default, 1 distinctive\n"
    )


def test_the_matrix_as_json(goldentrace, capsys):
    assert goldentrace("audit", "--matrix", "--format", "json") == 0
    matrix = json.loads(capsys.readouterr().out)
    assert matrix["schema"] == "goldentrace.coverage/1"
    assert matrix["cells"][0] == {
        "callee": "MLATokenToKVPoolHost",
        "parameter": "override_kv_cache_dim",
        "state": "distinctive",
        "value": 656,
        "values": 1,
        "scenarios": 2,
    }


def test_lineage_is_written_and_a_change_of_source_is_found(
    goldentrace, checkout, make_trace, monkeypatch, capsys
):
    for name in checkout.traces:
        config = {"builder": "build_kv_only_stack", "width": 656}
        trace = make_trace(name)
        scenario = msgspec.structs.replace(trace.scenario, config=config)
        checkout.traces[name] = msgspec.structs.replace(trace, scenario=scenario)
    assert goldentrace("audit", "--write-lineage") == 0
    written = (checkout.root / "traces" / "lineage" / "native.toml").read_text()
    assert written == (
        'schema = "goldentrace.lineage/1"\n'
        "\n"
        '["MLATokenToKVPoolHost.override_kv_cache_dim"]\n'
        '"*" = ["config.width"]\n'
    )
    assert goldentrace("audit") == 0
    for name, trace in checkout.traces.items():
        config = {"builder": "build_kv_only_stack", "width": 576}
        scenario = msgspec.structs.replace(trace.scenario, config=config)
        checkout.traces[name] = msgspec.structs.replace(trace, scenario=scenario)
    capsys.readouterr()
    assert goldentrace("audit", "--format", "json") == 1
    [cause] = json.loads(capsys.readouterr().out)["causes"]
    assert cause["kind"] == "argument_changed"
    assert (cause["before"], cause["after"]) == (["config.width"], ["constant 656"])


def test_lineage_is_of_our_own_code_only(goldentrace, capsys):
    arguments = ("audit", "--target", "sglang", "--side", "pypi:0.5.12", "--write-lineage")
    assert goldentrace(*arguments) == 2
    assert "--target: must be our own code" in capsys.readouterr().err


def test_a_golden_cannot_be_audited(goldentrace, capsys):
    assert goldentrace("audit", "--side", "golden") == 2
    assert "side: must be runnable" in capsys.readouterr().err


def test_the_gate_fails_by_a_new_finding_though_the_goldens_agree(goldentrace, blinded, capsys):
    assert goldentrace("gate", "--format", "json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert [cause["where"] for cause in verdict["causes"]] == [
        "MLATokenToKVPoolHost.layout",
        "MLATokenToKVPoolHost.override_kv_cache_dim",
    ]


def test_the_gate_passes_by_known_findings(goldentrace, checkout, blinded):
    checkout.write_baseline(*BOTH)
    assert goldentrace("gate") == 0


def test_the_gate_fails_by_a_known_finding_that_is_gone(goldentrace, checkout, capsys):
    checkout.write_baseline(BLIND)
    assert goldentrace("gate", "--format", "json") == 1
    assert "must still be one" in json.loads(capsys.readouterr().out)["problems"][0]


def test_the_gate_shows_differences_alone_where_there_are_any(
    goldentrace, checkout, blinded, narrowed, capsys
):
    assert goldentrace("gate", "--format", "json") == 1
    kinds = {cause["kind"] for cause in json.loads(capsys.readouterr().out)["causes"]}
    assert "parameter_blind_spot" not in kinds


def test_the_gate_leaves_round_trips_to_the_goldens(goldentrace, checkout, broken_trace):
    """Control: the audit alone knows no golden and fails."""
    trace = broken_trace("a")
    checkout.traces["a"] = trace
    checkout.write_golden(trace)
    checkout.commit("a known fault")
    assert goldentrace("gate") == 0
    assert goldentrace("audit") == 1


def test_some_scenarios_are_not_audited(goldentrace, blinded):
    assert goldentrace("gate", "a") == 0
