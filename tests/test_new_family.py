"""A new pool family is three files: a device pool, a host pool, and a scenario entry."""

import json
import shutil
from pathlib import Path

import pytest

FILES = {
    "device_pool.py": "assembler/device_pools/int8.py",
    "host_pool.py": "assembler/host_pools/int8.py",
    "entry.py": "traces/targets/native/families/int8.py",
}
UNWRITTEN = "        self.affine_buffer = self._empty(self._buffer_shape(affine), affine.dtype)\n"
SCENARIO = "kv_only.llama3_int8.page_first.kernel.wb.p16.gb.tp8cp2pp3.file"


@pytest.fixture
def with_family(checkout):
    """A copy of the checkout with the three files and the goldens of their scenarios."""
    source = Path(__file__).parent / "new_family"
    for name, place in FILES.items():
        shutil.copy(source / name, checkout.root / place)
    checkout.write("CHANGELOG.md", "# Changelog\n\n## Unreleased\n")
    return checkout


def goldentrace(checkout, *arguments):
    return checkout.run("-m", "tools.cli", *arguments)


def verdict_of(checkout, command, *arguments):
    done = goldentrace(checkout, command, "--device", "cpu", "--format", "json", *arguments)
    return done.returncode, json.loads(done.stdout)


def leave_third_plane_out(checkout):
    """Neither the device pool declares its third plane, nor does the host pool mirror it."""
    device, host = FILES["device_pool.py"], FILES["host_pool.py"]
    checkout.replace(device, "_planes() | {plane: self.affine_buffer}", "_planes()")
    own = "MHATokenToKVPoolHost.planes_of(device_pool)"
    checkout.replace(host, f"(*{own}, affine)", own)
    checkout.replace(host, "        affine = self.planes[2]\n", "")
    checkout.replace(host, UNWRITTEN, "")


@pytest.mark.slow
def test_three_files_are_enough_for_gate_check_and_audit(with_family):
    names = [
        scenario["name"]
        for scenario in json.loads(goldentrace(with_family, "list", "--json").stdout)["scenarios"]
        if ".llama3_int8." in scenario["name"]
    ]
    assert len(names) == 5
    assert SCENARIO in names
    written = goldentrace(with_family, "regenerate", "--reason", "a new family", *names)
    assert written.returncode == 0, written.stderr
    assert written.stdout.endswith("5 created\n")

    code, verdict = verdict_of(with_family, "gate", *names)
    assert (code, verdict["causes"], verdict["problems"]) == (0, [], [])
    assert verdict["scenarios"]["played"] == 5
    assert goldentrace(with_family, "check", "--device", "cpu", SCENARIO).returncode == 0
    code, verdict = verdict_of(with_family, "audit")
    assert (code, verdict["causes"], verdict["problems"]) == (0, [], [])


@pytest.mark.slow
def test_a_plane_of_the_new_family_that_is_left_out_is_found(with_family):
    written = goldentrace(with_family, "regenerate", "--reason", "a new family", SCENARIO)
    assert written.returncode == 0, written.stderr
    leave_third_plane_out(with_family)

    code, verdict = verdict_of(with_family, "gate", SCENARIO)
    assert code == 1
    shapes = [c for c in verdict["causes"][0]["consequences"] if c["kind"] == "shape_changed"]
    assert [(c["where"], c["before"], c["after"]) for c in shapes] == [
        ("host.KV.affine_buffer", [448, 2, 2, 2], None)
    ]
    assert goldentrace(with_family, "check", "--device", "cpu", SCENARIO).returncode == 1
    code, verdict = verdict_of(with_family, "audit")
    assert code == 1
    assert {(c["kind"], c["where"]) for c in verdict["causes"]} == {
        ("declared_not_assembled", "build_kv_only_stack: device.KV.affine_buffer"),
        ("declared_not_assembled", "build_kv_only_stack: device.DRAFT.affine_buffer"),
    }
