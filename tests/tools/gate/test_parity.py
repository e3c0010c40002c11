"""Parity on a small checkout: what is equal, what is refused, what a certificate says."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock

import tools.gate.parity
from tools.goldens.sidecars import goldens_sha256, read_certificate


def certificate(checkout) -> Path:
    return checkout.golden / "PARITY.json"


def provenance(checkout) -> dict:
    return json.loads((checkout.golden / "PROVENANCE.json").read_text())["goldens"]


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    [line] = [line for line in lines if not line.endswith(" s")]
    return line


def test_equal_traces_pass_and_are_counted(goldentrace, checkout, capsys):
    before = checkout.files()
    assert goldentrace("parity") == 0
    captured = capsys.readouterr()
    assert captured.out == (
        "PASS  native: cuda against golden\n2 scenarios played, 2 unchanged, 0 changed\n"
    )
    summary = "parity: 2 equal, 0 different on NVIDIA H100 (driver 570.1, torch 2.0)"
    assert f"goldentrace: note: {summary}\n" in captured.err
    assert checkout.files() == before


def test_difference_fails_with_its_cause(goldentrace, narrowed, capsys):
    assert goldentrace("parity", "--format", "json") == 1
    captured = capsys.readouterr()
    verdict = json.loads(captured.out)
    assert verdict["causes"][0]["kind"] == "argument_changed"
    assert verdict["causes"][0]["location"] == {"file": "assembler/stacks.py", "line": 123}
    assert verdict["scenarios"]["names_changed"] == ["a"]
    assert verdict["head"]["side"] == "cuda"
    assert (verdict["head"]["device_name"], verdict["head"]["driver"]) == ("NVIDIA H100", "570.1")
    assert "parity: 1 equal, 1 different on NVIDIA H100" in captured.err


def test_other_devices_are_compared_as_well(goldentrace, checkout, capsys):
    checkout.gpu = ""
    assert goldentrace("parity", "--device", "sim:random:3") == 0
    assert "parity: 2 equal, 0 different on x86_64 (torch 2.0)\n" in capsys.readouterr().err


def test_machine_without_gpu_gives_one_clear_line(goldentrace, checkout, capsys):
    checkout.gpu = ""
    assert goldentrace("parity") == 2
    assert error_line(capsys) == (
        "goldentrace: --device cuda: must be on this machine; expected a GPU, got none"
    )


def test_no_scenario_at_all_cannot_be_judged(goldentrace, checkout, capsys):
    checkout.traces.clear()
    assert goldentrace("parity") == 2
    assert error_line(capsys).startswith("goldentrace: scenarios: must run; expected at le")


def test_scenario_that_cannot_be_played_is_no_difference(goldentrace, checkout, capsys):
    checkout.traces["a"] = "hangs"
    assert goldentrace("parity", "--write", "--format", "json") == 2
    verdict = json.loads(capsys.readouterr().out)
    problem = "a: must run to the end (PYTHONHASHSEED=0); expected a trace, got hangs"
    assert (verdict["verdict"], verdict["problems"]) == ("error", [problem])
    assert verdict["causes"] == []
    assert not certificate(checkout).exists()


def test_unreadable_golden_cannot_be_judged(goldentrace, checkout, capsys):
    (checkout.golden / "a.json").write_text("<<<<<<< ours\n")
    assert goldentrace("parity") == 2
    assert "must not hold a merge conflict" in capsys.readouterr().out


def test_missing_and_surplus_goldens_are_differences(goldentrace, checkout, make_trace, capsys):
    checkout.traces["new"] = make_trace("new", width=1)
    checkout.write_golden(make_trace("gone", width=2))
    assert goldentrace("parity", "--format", "json") == 1
    causes = json.loads(capsys.readouterr().out)["causes"]
    found = {cause["kind"] for cause in causes}
    assert found == {"scenario_added", "scenario_removed"}


def test_named_scenarios_are_judged_alone(goldentrace, checkout, narrowed, make_trace):
    checkout.write_golden(make_trace("gone", width=2))
    assert goldentrace("parity", "b") == 0
    assert goldentrace("parity", "a") == 1


def test_same_trace_in_other_bytes_differs(goldentrace, checkout, capsys):
    path = checkout.golden / "a.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert goldentrace("parity", "--write", "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["causes"][0]["kind"] == "format_changed"
    assert not certificate(checkout).exists()


def test_difference_that_nothing_explains_still_fails(goldentrace, narrowed, monkeypatch, capsys):
    monkeypatch.setattr(tools.gate.parity, "compare_sides", lambda base, head: ())
    assert goldentrace("parity", "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [
        "a: must equal its golden; expected its bytes, got others"
    ]


def pageable(trace):
    """The same trace with host memory that is not pinned."""
    [tensor] = trace.tensors
    tensor = msgspec.structs.replace(tensor, pinned=False)
    return msgspec.structs.replace(trace, tensors=(tensor,))


def test_certificate_says_what_gave_exactly_which_goldens(goldentrace, checkout, capsys):
    assert goldentrace("parity", "--device", "cuda:1", "--write") == 0
    assert "goldentrace: note: parity: PARITY.json written for NVIDIA H100\n" in (
        capsys.readouterr().err
    )
    found = json.loads(certificate(checkout).read_text())
    assert found["schema"] == "goldentrace.parity/1"
    entry = found["devices"]["NVIDIA H100"]
    assert entry.pop("date").endswith("+00:00")
    goldens = {name: (checkout.golden / f"{name}.json").read_bytes() for name in ("a", "b")}
    assert entry == {
        "scenarios": 2,
        "differences": 0,
        "goldens_sha256": goldens_sha256(goldens),
        "device_name": "NVIDIA H100",
        "driver": "570.1",
        "cuda": "13.0",
        "torch": "2.0",
        "python": "3.11",
        "commit": checkout.git("rev-parse", "HEAD").strip(),
        "dirty": False,
    }


def test_sidecars_do_not_make_the_tree_dirty_but_sources_do(goldentrace, checkout):
    assert goldentrace("parity", "--write") == 0
    assert goldentrace("parity", "--write") == 0
    assert read_certificate(checkout.golden)["NVIDIA H100"].dirty is False
    (checkout.root / "assembler" / "new.py").touch()
    assert goldentrace("parity", "--write") == 0
    assert read_certificate(checkout.golden)["NVIDIA H100"].dirty is True


def test_field_that_hardware_decides_is_compared_as_well(goldentrace, checkout):
    checkout.traces["a"] = pageable(checkout.traces["a"])
    assert goldentrace("parity") == 1


def test_second_gpu_adds_its_entry(goldentrace, checkout):
    assert goldentrace("parity", "--write") == 0
    first = read_certificate(checkout.golden)["NVIDIA H100"]
    checkout.gpu = "NVIDIA H200"
    assert goldentrace("parity", "--write") == 0
    found = read_certificate(checkout.golden)
    assert list(found) == ["NVIDIA H100", "NVIDIA H200"]
    assert found["NVIDIA H100"] == first
    assert {of["device_name"] for of in provenance(checkout).values()} == {"NVIDIA H100"}


def test_goldens_are_from_now_on_recorded_on_the_gpu(goldentrace, checkout, narrowed):
    assert goldentrace("regenerate", "--reason", "narrower") == 0
    assert provenance(checkout)["a"]["device"] == "cpu"
    assert goldentrace("parity", "--write") == 0
    found = provenance(checkout)
    assert list(found) == ["a", "b"]
    for of in found.values():
        assert (of["device"], of["device_name"], of["driver"], of["torch"]) == (
            "cuda",
            "NVIDIA H100",
            "570.1",
            "2.0",
        )
        assert of["commit"] == checkout.git("rev-parse", "HEAD").strip()


def test_outside_a_git_checkout_the_commit_is_an_option(goldentrace, checkout):
    shutil.rmtree(checkout.root / ".git")
    assert goldentrace("parity") == 0
    assert goldentrace("parity", "--write") == 0
    entry = read_certificate(checkout.golden)["NVIDIA H100"]
    assert (entry.commit, entry.dirty) == ("", None)
    (checkout.golden / "PROVENANCE.json").unlink()
    assert goldentrace("parity", "--write", "--commit", "abc123") == 0
    entry = read_certificate(checkout.golden)["NVIDIA H100"]
    assert (entry.commit, entry.dirty) == ("abc123", None)
    assert provenance(checkout)["a"]["commit"] == "abc123"


def test_commit_that_git_did_not_name_is_not_compared_with(goldentrace, checkout):
    assert goldentrace("parity", "--write", "--commit", "abc123") == 0
    assert read_certificate(checkout.golden)["NVIDIA H100"].dirty is None
    shutil.rmtree(checkout.root / ".git")
    checkout.git("init", "-q")
    assert goldentrace("parity", "--write") == 0
    entry = read_certificate(checkout.golden)["NVIDIA H100"]
    assert (entry.commit, entry.dirty) == ("", None)


def test_regenerate_takes_the_commit_as_well(goldentrace, checkout, narrowed):
    shutil.rmtree(checkout.root / ".git")
    arguments = ("--device", "cuda", "--commit", "abc123", "--reason", "why")
    assert goldentrace("regenerate", *arguments) == 0
    found = provenance(checkout)["a"]
    assert (found["device_name"], found["commit"]) == ("NVIDIA H100", "abc123")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "b"), "parity --write: must run every scenario; expected no SCENARIO, got a b"),
        (
            ("--device", "sim"),
            "parity --write: must run on a GPU; expected --device cuda, got sim",
        ),
        (
            ("--device", "auto"),
            "parity --write: must run on a GPU; expected --device cuda, got auto",
        ),
    ],
)
def test_certificate_that_could_not_speak_for_all_is_refused(
    goldentrace, checkout, capsys, arguments, said
):
    before = checkout.files()
    assert goldentrace("parity", "--write", *arguments) == 2
    assert error_line(capsys) == f"goldentrace: {said}"
    assert checkout.files() == before


def test_certificate_is_refused_when_a_scenario_differs(goldentrace, checkout, narrowed, capsys):
    before = checkout.files()
    assert goldentrace("parity", "--write") == 1
    assert "PARITY.json not written: every scenario must equal its golden" in (
        capsys.readouterr().err
    )
    assert checkout.files() == before


def test_certificate_is_refused_in_ci(goldentrace, checkout, monkeypatch, capsys):
    monkeypatch.setenv("CI", "true")
    assert goldentrace("parity", "--write") == 2
    assert error_line(capsys).startswith("goldentrace: golden: must not be written in CI")
    assert goldentrace("parity") == 0
    assert not certificate(checkout).exists()


def test_certificate_is_refused_while_goldens_are_regenerated(
    goldentrace, checkout, monkeypatch, capsys
):
    monkeypatch.setattr("tools.gate.regenerate.LOCK_LIMIT_SECONDS", 0.01)
    (checkout.root / ".goldentrace").mkdir()
    with FileLock(checkout.root / ".goldentrace" / "regenerate.lock"):
        assert goldentrace("parity", "--write") == 2
    assert "must run one at a time" in capsys.readouterr().err
    assert goldentrace("parity", "--write") == 0


def test_folder_that_cannot_be_written_leaves_everything(
    goldentrace, checkout, monkeypatch, capsys
):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("traces.schema.transaction.Transaction.write", full)
    before = checkout.files()
    assert goldentrace("parity", "--write") == 2
    assert "must be writable; expected a writable directory, got No space left" in (
        capsys.readouterr().err
    )
    assert checkout.files() == before


def notes(capsys) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("goldentrace: note: parity")]


def test_gate_notes_a_missing_and_an_older_certificate_and_still_passes(
    goldentrace, checkout, narrowed, capsys
):
    ask = "run goldentrace parity --device cuda --write on a GPU"
    checkout.write_golden(narrowed)
    checkout.changelog.write_text("## Unreleased\n### Goldens\n- a: narrower\n")
    assert goldentrace("gate") == 0
    assert notes(capsys) == [f"goldentrace: note: parity: certificate is missing; {ask}"]
    assert goldentrace("parity", "--write") == 0
    capsys.readouterr()
    assert goldentrace("gate") == 0
    assert notes(capsys) == []
    checkout.traces["a"] = pageable(narrowed)
    checkout.write_golden(checkout.traces["a"])
    assert goldentrace("gate") == 0
    older = "certificate is older than the goldens"
    assert notes(capsys) == [f"goldentrace: note: parity: {older}; {ask}"]


def test_only_the_whole_gate_asks_for_the_certificate(goldentrace, capsys):
    for arguments in (("gate", "a"), ("check",)):
        assert goldentrace(*arguments) == 0
        assert notes(capsys) == []


def test_certificate_is_no_golden(goldentrace, checkout):
    assert goldentrace("parity", "--write") == 0
    assert goldentrace("gate") == 0
    assert goldentrace("diff", str(checkout.golden), str(checkout.golden)) == 0
    assert goldentrace("parity") == 0
