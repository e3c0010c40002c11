"""The fault this project started from: ``override_kv_cache_dim`` lost in the NSA attach function.

Upstream: sglang #23243 dropped it, #25022 put it back; 0.5.11 has the fault, 0.5.12 has not.
"""

import pytest

from traces.targets.native.scenarios import registry

ATTACH = "assembler/stacks/attach.py"
KEYWORD = "        override_kv_cache_dim=kv.device_pool.host_row_width,\n"
FUNCTION = "def attach_hybrid_nsa_pool_to_hiradix_cache("


def nsa_scenarios(io_backend):
    return [
        name
        for name, scenario in registry().items()
        if scenario.builder == "attach_hybrid_nsa_pool_to_hiradix_cache"
        and scenario.model == "dsv32_fp8"
        and scenario.io_backend == io_backend
    ]


def drop_override(checkout):
    """Delete the keyword in the attach function; return the line of the call it stood in."""
    text = checkout.read(ATTACH)
    function = text.index(FUNCTION)
    keyword = text.index(KEYWORD, function)
    call = text.index("build_shared_anchor_stack(", function)
    checkout.write(ATTACH, text[:keyword] + text[keyword + len(KEYWORD) :])
    return text[:call].count("\n") + 1


def open_walls(checkout):
    checkout.replace("assembler/validation.py", "default=True", "default=False")


def test_dropped_override_is_the_first_cause_with_its_value_and_line(checkout):
    line = drop_override(checkout)
    code, verdict = checkout.gate(*nsa_scenarios("kernel"), *nsa_scenarios("direct"))
    assert (code, verdict["verdict"]) == (1, "fail")
    cause = verdict["causes"][0]
    assert cause["kind"] == "argument_dropped"
    assert cause["level"] == "behaviour"
    assert cause["parameter"] == "override_kv_cache_dim"
    assert (cause["before"], cause["after"]) == (656, None)
    assert cause["builder"] == "build_shared_anchor_stack"
    assert cause["callee"] == "MLATokenToKVPoolHost"
    assert cause["location"] == {"file": "assembler/stacks/attach.py", "line": line}
    shapes = [c for c in cause["consequences"] if c["kind"] == "shape_changed"]
    assert {c["where"] for c in shapes} == {"host.KV.kv_buffer"}
    assert {(c["before"][-1], c["after"][-1]) for c in shapes} == {(656, 576)}
    failures = [c for c in cause["consequences"] if c["kind"] == "outcome_changed"]
    assert "KV: host row must equal device row; expected 656 bytes, got 576" in str(failures)


def test_untouched_attach_function_passes(checkout):
    code, verdict = checkout.gate(*nsa_scenarios("kernel"))
    assert (code, verdict["verdict"], verdict["causes"]) == (0, "pass", [])


def test_pytest_fails_as_well_and_names_the_keyword(checkout):
    (checkout.root / "tests").mkdir()
    checkout.write("tests/test_golden.py", TEST_OF_ONE_SCENARIO % nsa_scenarios("kernel")[0])
    assert checkout.run("-m", "pytest", "-q", "tests").returncode == 0
    drop_override(checkout)
    done = checkout.run("-m", "pytest", "-q", "tests")
    assert done.returncode == 1
    assert "argument_dropped  override_kv_cache_dim  656 -> nothing" in done.stdout


TEST_OF_ONE_SCENARIO = """
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import registry

def test_scenario(golden_trace):
    name = "%s"
    golden_trace.verify(name, run_scenario(registry()[name], device="cpu"))
"""


def test_without_walls_kernel_destroys_other_slots_silently(checkout):
    open_walls(checkout)
    drop_override(checkout)
    scenario = next(n for n in nsa_scenarios("kernel") if registry()[n].layout == "layer_first")
    code, verdict = checkout.gate(scenario)
    assert code == 1
    cause = verdict["causes"][0]
    assert (cause["parameter"], cause["before"]) == ("override_kv_cache_dim", 656)
    assert not [c for c in cause["consequences"] if c["kind"] == "outcome_changed"]
    trips = {c["where"]: c for c in cause["consequences"] if "round trip" in c["where"]}
    steps = ("reload", "pressure", "share")
    assert set(trips) == {f"round trip KV in {step}" for step in steps}
    reload = trips["round trip KV in reload"]
    assert reload["before"] == {"equal": True, "wrong_slots": "", "foreign_slots": ""}
    # 192 tokens were loaded into slots 384..575, and 47 slots of other tokens changed.
    expected = {"equal": False, "wrong_slots": "384-575", "foreign_slots": "337-383"}
    assert reload["after"] == expected


def test_without_walls_direct_raises_the_reported_error(checkout):
    open_walls(checkout)
    drop_override(checkout)
    code, verdict = checkout.gate(nsa_scenarios("direct")[0])
    assert code == 1
    cause = verdict["causes"][0]
    assert (cause["parameter"], cause["before"]) == ("override_kv_cache_dim", 656)
    outcomes = {c["where"]: c for c in cause["consequences"] if c["kind"] == "outcome_changed"}
    assert outcomes["outcome"]["after"] == (
        "RuntimeError: The size of tensor a (576) must match the size of tensor b (656) "
        "at non-singleton dimension 2 in backup"
    )


def test_without_walls_the_untouched_code_passes(checkout):
    open_walls(checkout)
    code, _ = checkout.gate(nsa_scenarios("kernel")[0])
    assert code == 0


@pytest.mark.parametrize("io_backend", ["kernel", "direct"])
def test_matrix_plays_the_fault_on_both_backends(io_backend):
    assert nsa_scenarios(io_backend)
