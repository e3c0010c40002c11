"""The verdict on a package: two sides that are both played, and what one of them cannot run."""

import json
import shutil

import pytest

from tools.sides import prepare
from tools.workers.protocol import UnsupportedScenario


@pytest.fixture
def package_gate(goldentrace, checkout, tmp_path, monkeypatch, capsys):
    """Judge the tree in the checkout against another; both need nothing but our interpreter."""
    monkeypatch.setattr(prepare, "SGLANG_DEPENDENCIES", ("json",))
    for root, version in ((checkout.root, "0.5.11"), (tmp_path / "base", "0.5.12")):
        (root / "sglang" / "srt").mkdir(parents=True)
        (root / "sglang" / "_version.py").write_text(f"__version__ = '{version}'\n")

    def gate(*arguments):
        sides = ("--base", f"dir:{tmp_path / 'base'}", "--head", f"dir:{checkout.root}")
        code = goldentrace("gate", "--target", "sglang", *sides, "--format", "json", *arguments)
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return gate


def test_equal_sides_pass_without_goldens_or_declaration(package_gate, checkout, narrowed):
    """Goldens and CHANGELOG are those of our own code; the control changes one side alone."""
    checkout.base_traces = dict(checkout.traces)
    code, verdict, err = package_gate()
    assert code == 0
    assert verdict["target"] == "sglang"
    assert verdict["head"] == {"side": f"dir:{checkout.root}", "version": "0.5.11"}
    assert verdict["base"]["version"] == "0.5.12"
    assert verdict["scenarios"] == {
        "played": 2,
        "unchanged": 2,
        "changed": 0,
        "names_changed": [],
        "names": ["a", "b"],
    }
    assert "note" not in err


def test_difference_of_the_head_is_a_cause(package_gate, checkout, narrowed):
    code, verdict, _ = package_gate()
    assert code == 1
    assert verdict["causes"][0]["parameter"] == "override_kv_cache_dim"
    assert verdict["problems"] == []


class Asked(dict):
    """What a side plays; knows whether anybody wanted it."""

    was_asked = False

    def __getitem__(self, name):
        self.was_asked = True
        return super().__getitem__(name)


@pytest.mark.parametrize("is_there", [True, False], ids=["control", "base is missing"])
def test_side_that_cannot_be_had_is_told_before_the_other_one_is_played(
    package_gate, checkout, narrowed, tmp_path, is_there
):
    checkout.traces = Asked(checkout.traces)
    if not is_there:
        shutil.rmtree(tmp_path / "base")

    code, _, err = package_gate()

    assert checkout.traces.was_asked is is_there
    assert code == (1 if is_there else 2)
    assert is_there or "base: must hold sglang; expected " in err.splitlines()[-1]


@pytest.mark.parametrize("side", ["base", "head"])
def test_what_one_side_cannot_play_is_said_and_not_compared(package_gate, checkout, side):
    traces = checkout.traces if side == "head" else checkout.base_traces
    traces["a"] = UnsupportedScenario(reason="no build_hybrid_swa_stack")
    code, verdict, err = package_gate()
    assert code == 0
    assert verdict["causes"] == []
    assert verdict["scenarios"]["played"] == 1
    assert verdict[side]["unplayable"] == "a: no build_hybrid_swa_stack"
    assert f"{verdict[side]['side']} cannot run 1 scenario: no build_hybrid_swa_stack" in err


def test_scenarios_of_one_reason_share_a_note(package_gate, checkout, make_trace):
    for name in ("c", "d"):
        checkout.traces[name] = checkout.base_traces[name] = make_trace(name)
    for name in ("a", "b", "c"):
        checkout.base_traces[name] = UnsupportedScenario(reason="x" if name == "b" else "y")
    _, _, err = package_gate()
    assert "cannot run 2 scenarios: y" in err
    assert "cannot run 1 scenario: x" in err


@pytest.mark.parametrize("side", ["base", "head"])
def test_nothing_comparable_is_an_error(package_gate, checkout, side):
    traces = checkout.traces if side == "head" else checkout.base_traces
    for name in list(traces):
        traces[name] = UnsupportedScenario(reason="too old")
    code, verdict, _ = package_gate()
    assert code == 2
    assert verdict["scenarios"]["played"] == 0
    assert verdict["problems"] == ["scenarios: must run; expected at least one, got 0"]


def test_known_complaint_of_the_base_is_no_news(package_gate, checkout, broken_trace):
    checkout.traces["a"] = checkout.base_traces["a"] = broken_trace("a")
    assert package_gate()[0] == 0


def test_complaint_about_what_only_the_head_can_play_is_a_fault(
    package_gate, checkout, broken_trace
):
    checkout.traces["a"] = broken_trace("a")
    checkout.base_traces["a"] = UnsupportedScenario(reason="too old")
    code, verdict, _ = package_gate()
    assert code == 1
    assert "a round trip must restore every row" in verdict["problems"][0]


@pytest.mark.parametrize("is_compared", [True, False], ids=["control", "head alone"])
def test_complaints_that_nothing_was_compared_with_are_one_line(
    package_gate, checkout, broken_trace, make_trace, is_compared
):
    """The control's base plays the same scenarios well, so that each is a difference."""
    for name in ("a", "b", "c"):
        checkout.traces[name] = broken_trace(name)
        checkout.base_traces[name] = (
            make_trace(name) if is_compared else UnsupportedScenario(reason="too old")
        )
    checkout.traces["d"] = checkout.base_traces["d"] = make_trace("d")
    code, verdict, _ = package_gate()
    assert code == 1
    head, base = verdict["head"]["side"], verdict["base"]["side"]
    folded = (
        f"scenarios: what {base} cannot run must end well and restore every row; expected no "
        f"complaint, got 3 complaints in 3 scenarios, which `goldentrace audit --target sglang "
        f"--side {head}` shows"
    )
    assert verdict["problems"] == ([] if is_compared else [folded])
    assert [cause["kind"] for cause in verdict["causes"]] == (
        ["digest_changed"] if is_compared else []
    )


def test_builder_that_nothing_plays_is_a_note_where_the_base_has_it_too(package_gate, checkout):
    checkout.builders = ("build_kv_only_stack", "build_new_stack")
    code, _, err = package_gate()
    assert code == 0
    assert "no scenario runs build_new_stack of dir:" in err


def test_goldens_of_the_package_are_judged_once_they_exist(package_gate, checkout, make_trace):
    folder = checkout.root / "traces" / "golden" / "sglang"
    folder.mkdir()
    checkout.write_golden(make_trace("a"))
    (folder / "gone.json").write_text((checkout.golden / "a.json").read_text())
    code, verdict, _ = package_gate()
    assert code == 2
    assert "gone.json" in verdict["problems"][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gate",), "--head: must be given for target sglang; expected pypi:"),
        (("gate", "--head", "pypi:1"), "golden: must have been written; expected traces in "),
        (("list",), "--side: must be given for target sglang; expected pypi:VERSION, dir:PATH"),
        (("record",), "--side: must be given for target sglang; expected pypi:VERSION, dir:PATH"),
        (("list", "--side", "worktree"), "side: must be known; expected pypi:VERSION"),
        (("list", "--side", "dir:.", "--python", "."), "--python: must be an interpreter;"),
    ],
)
def test_side_of_a_package_must_be_named(goldentrace, capsys, arguments, said, monkeypatch):
    assert goldentrace(*arguments, "--target", "sglang") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"goldentrace: {said}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("explore",),
        ("bench", "gate"),
        ("bench", "recorder"),
        ("parity",),
        ("regenerate", "--reason", "x"),
    ],
    ids=" ".join,
)
def test_verb_for_our_own_code_refuses_a_package(goldentrace, capsys, arguments):
    assert goldentrace(*arguments, "--target", "sglang") == 2
    expected = "goldentrace: --target: must be our own code for this command; expected native, got "
    assert capsys.readouterr().err.startswith(expected)


def test_interpreter_is_refused_for_our_own_code(goldentrace, capsys):
    assert goldentrace("list", "--python", "/bin/sh") == 2
    expected = "goldentrace: --python: must be left out for target native; expected none, got "
    assert capsys.readouterr().err.startswith(expected)


def test_list_and_record_take_a_side(goldentrace, checkout, package_gate, tmp_path, capsys):
    side = ("--target", "sglang", "--side", f"dir:{checkout.root}")
    assert goldentrace("list", "--json", *side) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "sglang"
    checkout.traces["b"] = UnsupportedScenario(reason="too old")
    assert goldentrace("record", "--out", str(tmp_path / "out"), *side) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out' / 'a.json'}\n"
    assert "cannot run 1 scenario: too old" in captured.err


def test_recording_nothing_is_an_error(goldentrace, checkout, package_gate, tmp_path, capsys):
    for name in list(checkout.traces):
        checkout.traces[name] = UnsupportedScenario(reason="too old")
    side = ("--target", "sglang", "--side", f"dir:{checkout.root}")
    assert goldentrace("record", "--out", str(tmp_path / "out"), *side) == 2
    assert "scenarios: must run; expected at least one, got 0" in capsys.readouterr().err
