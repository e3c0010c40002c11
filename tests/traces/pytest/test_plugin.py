"""The fixture ``golden_trace``, and every trap of syrupy that it closes."""

import os

import pytest
import syrupy

from tests.traces.projects import ONE, Project
from traces.pytest import snapshot
from traces.schema.canonical import parse

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    # syrupy keeps the running session in a global, which the inner run replaces.
    monkeypatch.setattr(syrupy, "_syrupy", syrupy._syrupy)
    return Project(pytester)


def test_missing_golden_fails_and_update_writes_it_canonically(project):
    project.test(ONE)

    project.run().assert_outcomes(failed=1)
    assert project.goldens() == {}
    project.update().assert_outcomes(passed=1)
    (content,) = project.goldens().values()
    assert content.startswith(b'{\n"schema":"goldentrace.trace/2",\n"scenario":{"name":"one",')
    assert snapshot.canonical.is_canonical(content, parse(content.decode()))
    project.run().assert_outcomes(passed=1)


def test_change_of_behaviour_fails_with_its_causes_and_how_to_accept(project):
    project.test(ONE)
    project.update()
    project.test(ONE.replace("build()", "build(width=None)"))

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "golden_trace one: must be as in golden/one.json",
            "1. argument_changed  width  16 -> None",
            "*test_stack.py:6",
            "*shape_changed*host.KV.kv_buffer*16*4*",
            "if this is meant, accept it: pytest --golden-update 'test_stack.py::test_one'",
        ]
    )
    assert '"arguments"' not in result.stdout.str()


def test_change_of_the_interface_alone_passes_and_an_update_writes_it(project):
    body = "def test_one(golden_trace):\n    with golden_trace('one'):\n        build({})\n"
    host = "\n        stack.build_host(device_pool=pools.DevicePool(2, width=4){})\n"
    project.test(body.format("") + host.format(", width=None"))
    project.update()
    before = project.goldens()
    project.test(body.format("") + host.format(""))

    project.run().assert_outcomes(passed=1)
    assert project.goldens() == before
    project.update().assert_outcomes(passed=1)
    assert project.goldens() != before


def test_integer_keys_are_kept_and_their_change_is_seen(project):
    body = "stack.Controller(stack.Group([]), policy={})"
    project.test(ONE.replace("build()", body.format({0: 0, 1: 1})))
    project.update()
    assert b'{"map":[[0,0],[1,1]]}' in project.goldens()["one.json"]
    project.run().assert_outcomes(passed=1)

    project.test(ONE.replace("build()", body.format({0: 9, 1: 9})))

    project.run().assert_outcomes(failed=1)


def test_golden_with_crlf_fails_though_it_says_the_same(project):
    project.test(ONE)
    project.update()
    path = project.golden / "one.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the file is not canonical: it was reformatted*"])
    project.update().assert_outcomes(passed=1)
    assert b"\r" not in path.read_bytes()


def test_golden_reformatted_by_hand_fails(project):
    project.test(ONE)
    project.update()
    path = project.golden / "one.json"
    path.write_bytes(path.read_bytes().replace(b'"config":{}', b'"config": {}'))

    project.run().assert_outcomes(failed=1)


def test_golden_with_a_merge_conflict_fails_in_one_line(project):
    project.test(ONE)
    project.update()
    path = project.golden / "one.json"
    path.write_bytes(b"<<<<<<< HEAD\n" + path.read_bytes())

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  golden: must not hold a merge conflict; expected a trace*"])


def test_golden_of_an_older_schema_fails_with_what_renews_it(project):
    project.test(ONE)
    project.update()
    path = project.golden / "one.json"
    path.write_bytes(path.read_bytes().replace(b"trace/2", b"trace/1"))

    result = project.run()

    result.assert_outcomes(failed=1)
    line = "  golden: schema must not be an older one; *pytest --golden-update* got *trace/1"
    result.stdout.fnmatch_lines([line])
    project.update().assert_outcomes(passed=1)
    project.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["--snapshot-update", "--golden-update"])
def test_update_does_not_replace_a_golden_of_a_newer_schema(project, option):
    project.test(ONE)
    project.update()
    path = project.golden / "one.json"
    newer = path.read_bytes().replace(b"trace/2", b"trace/10")
    path.write_bytes(newer)

    result = project.run(option)

    result.assert_outcomes(failed=1)
    line = "golden_trace one: a golden of a newer schema is not replaced; *got goldentrace.trace/10"
    result.stdout.fnmatch_lines([line])
    assert path.read_bytes() == newer


def test_golden_of_a_newer_schema_is_not_said_to_be_acceptable(project):
    project.test(ONE)
    project.update()
    path = project.golden / "one.json"
    path.write_bytes(path.read_bytes().replace(b"trace/2", b"trace/10"))

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["a newer goldentrace wrote it: install that one"])
    result.stdout.no_fnmatch_line("*--golden-update*")


@pytest.mark.parametrize("value", ["1", "true"])
def test_nothing_is_written_in_ci(project, monkeypatch, value):
    monkeypatch.setenv("CI", value)
    project.test(ONE)

    result = project.update()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  golden: must not be written in CI; expected CI not set, *"])
    assert project.goldens() == {}


def test_ci_set_to_zero_is_no_ci(project, monkeypatch):
    monkeypatch.setenv("CI", "0")
    project.test(ONE)

    project.update().assert_outcomes(passed=1)
    assert list(project.goldens()) == ["one.json"]


def test_update_writes_nothing_when_the_test_fails_afterwards(project):
    project.test(ONE)
    project.update()
    before = project.goldens()
    project.test(ONE.replace("build()", "build(width=None)") + "    assert False\n")

    result = project.update()

    result.assert_outcomes(failed=1)
    assert project.goldens() == before
    result.stdout.fnmatch_lines(["*one.json was not written: the test failed"])
    assert "updated" not in result.stdout.str()


def test_update_writes_nothing_when_the_teardown_fails(project):
    project.test(
        "@pytest.fixture\ndef late():\n    yield\n    raise KeyError('late')\n"
        + ONE.replace("(golden_trace)", "(late, golden_trace)")
    )

    project.update().assert_outcomes(passed=1, errors=1)
    assert project.goldens() == {}


def test_exception_in_the_block_is_the_failure_and_nothing_is_written(project):
    project.test(ONE.replace("build()", "raise LookupError('in the block')"))

    result = project.update()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LookupError: in the block"])
    assert project.goldens() == {}


@pytest.mark.parametrize(
    "result", ["equal=False, wrong_slots='3-4'", "equal=True, wrong_slots='', foreign_slots='3-4'"]
)
def test_failed_round_trip_is_never_written(project, result):
    foreign = "" if "foreign" in result else ", foreign_slots=''"
    project.test(
        "from traces.schema.model import RoundTrip\n"
        "def test_one(golden_trace):\n"
        "    with golden_trace('one') as recorder:\n"
        f"        recorder.digest(RoundTrip(step='load', pool='KV', plane='', {result}{foreign}))\n"
    )

    result = project.update()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["golden_trace one: round trip of KV must*got slots 3-4"])
    assert project.goldens() == {}


def test_directory_that_cannot_be_is_one_clear_error(project):
    project.test(ONE)
    project.golden.write_text("a file in the way")

    result = project.update()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["  *one.json: must be writable; expected a writable directory, got File exists"]
    )
    assert project.golden.read_text() == "a file in the way"


def test_directory_that_is_read_only_is_one_clear_error(project, monkeypatch):
    project.test(ONE)

    def refused(descriptor):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fsync", refused)
    result = project.update()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*one.json: must be writable; expected a writable directory, got Permission denied"]
    )
    assert project.goldens() == {}
