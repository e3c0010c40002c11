"""Which goldens a run of pytest must have, may leave alone, and may not do without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import syrupy

from tests.traces.projects import ONE, QUICK, Project

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    # syrupy keeps the running session in a global, which the inner run replaces.
    monkeypatch.setattr(syrupy, "_syrupy", syrupy._syrupy)
    return Project(pytester)


NAMED = (
    "@pytest.mark.parametrize('name', {names})\n"
    "def test_named(golden_trace, name):\n    with golden_trace(name):\n        build()\n"
)


def test_names_that_would_collide_are_refused(project):
    project.test(NAMED.format(names=["a/b", "a:b", "ab", "x" * 300]))

    result = project.update()

    result.assert_outcomes(failed=3, passed=1)
    assert list(project.goldens()) == ["ab.json"]
    result.stdout.fnmatch_lines(["*golden: name must be a file name; expected *, got 'a/b'"])


@pytest.mark.parametrize("names", [["same", "same"], ["same", "Same"]])
def test_two_tests_cannot_share_a_golden(project, names):
    project.test(NAMED.format(names=names))

    result = project.update()

    result.assert_outcomes(passed=1, failed=1)
    line = "golden ?ame: belongs to one test; expected *test_named*, got *test_named*"
    result.stdout.fnmatch_lines([line])
    assert "def test_named" not in result.stdout.str()


def test_one_test_may_use_its_golden_twice(project):
    project.test(ONE + "    with golden_trace('one'):\n        build()\n")
    project.update()

    project.run().assert_outcomes(passed=1)


def test_complete_run_fails_for_a_golden_without_a_test(project):
    project.test(ONE)
    project.update()
    (project.golden / "gone.json").write_text("{}")
    (project.golden / "README.md").write_text("foreign files are left alone")

    for result in (project.run(), project.run(str(project.pytester.path)), project.update()):
        result.assert_outcomes(passed=1, errors=1)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        line = "ERROR golden/gone.json - golden_trace: no test uses it; *"
        result.stdout.fnmatch_lines(["*short test summary info*", line, "*1 passed, 1 error*"])
    assert list(project.goldens()) == ["README.md", "gone.json", "one.json"]


def renamed(project: Project) -> None:
    project.test(ONE)
    project.update()
    project.test(ONE.replace("one", "renamed"))


def test_update_removes_the_golden_of_a_renamed_test(project):
    renamed(project)

    result = project.run("--golden-update")

    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["golden_trace: removed golden/one.json, which no test uses"])
    assert list(project.goldens()) == ["renamed.json"]


def test_golden_of_the_last_test_that_was_deleted_is_named(project):
    project.test(ONE)
    project.update()
    project.test("def test_other():\n    pass\n")

    result = project.run()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["ERROR golden/one.json - golden_trace: no test uses it*"])


def test_nothing_is_removed_in_ci(project, monkeypatch):
    project.test(ONE)
    project.update()
    project.test("def test_other():\n    pass\n")
    monkeypatch.setenv("CI", "1")

    result = project.update()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert list(project.goldens()) == ["one.json"]


STOP = """
def pytest_runtest_logreport(report):
    if report.when == "teardown":
        session.shouldstop = "enough"

def pytest_sessionstart(session):
    globals()["session"] = session
"""
INTERRUPT = """
def pytest_runtest_teardown(item):
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("conftest", [STOP, INTERRUPT])
@pytest.mark.parametrize("arguments", [(), ("--golden-update",)])
def test_part_of_a_run_judges_no_inventory(project, conftest, arguments):
    project.test(ONE)
    project.test(ONE.replace("one", "two"), name="test_two")
    project.update()
    path = project.pytester.path / "conftest.py"
    path.write_text(path.read_text() + conftest)

    # An interrupt of a run in this process would end this one.
    result = project.pytester.runpytest_subprocess(*QUICK, *arguments)

    assert "no test uses" not in result.stdout.str()
    assert "1 passed" in result.stdout.str()
    assert list(project.goldens()) == ["one.json", "two.json"]


@pytest.mark.parametrize("arguments", [(), ("--golden-update",)])
def test_shard_of_the_suite_judges_no_inventory(project, arguments):
    # pytest-shard chooses by the hash of a test's id: it gives "e" and "f" to the other shard.
    project.test(NAMED.format(names=["a", "b", "e", "f"]))
    project.update()

    shards = [project.run("--num-shards", "2", "--shard-id", number, *arguments) for number in "01"]

    passed = [result.parseoutcomes() for result in shards]
    assert sum(one["passed"] for one in passed) == 4
    assert [one.keys() for one in passed] == [{"passed"}, {"passed"}]
    assert [result.ret for result in shards] == [pytest.ExitCode.OK] * 2
    assert list(project.goldens()) == ["a.json", "b.json", "e.json", "f.json"]


def test_module_that_skips_itself_keeps_its_goldens(project):
    project.test(ONE)
    project.test(ONE.replace("one", "two"), name="test_two")
    project.update()
    skip = "pytest.skip('not on this platform', allow_module_level=True)\n"
    project.test(skip + ONE.replace("one", "two"), name="test_two")

    result = project.run("--golden-update")

    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK
    assert list(project.goldens()) == ["one.json", "two.json"]


def test_rerun_that_passes_has_written_its_golden(project):
    project.test("runs = []\n" + ONE + "    runs.append(1)\n    assert len(runs) == 2\n")

    result = project.run("--golden-update", "--reruns", "1")

    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    assert list(project.goldens()) == ["one.json"]


def test_rerun_that_fails_has_written_nothing(project):
    project.test(ONE + "    raise ValueError('always')\n")

    result = project.run("--golden-update", "--reruns", "1")

    assert result.parseoutcomes() == {"failed": 1, "rerun": 1}
    assert project.goldens() == {}


def test_partial_run_judges_no_inventory(project):
    project.test(ONE)
    project.test(ONE.replace("one", "two"), name="test_other")
    project.update()

    for arguments in (["-k", "one"], ["test_stack.py"], ["test_stack.py::test_one"]):
        result = project.run(*arguments)
        result.assert_outcomes(passed=1, deselected=1 if "-k" in arguments else 0)
        assert result.ret == pytest.ExitCode.OK
    assert list(project.goldens()) == ["one.json", "two.json"]


def test_partial_update_leaves_other_goldens_alone(project):
    project.test(ONE)
    project.test(ONE.replace("one", "two"), name="test_other")
    project.update()
    before = project.goldens()

    project.update("-k", "one")

    assert project.goldens() == before


def test_empty_parametrisation_fails(project):
    project.test(NAMED.format(names=[]))

    result = project.run()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["golden_trace: a golden must be verified; *"])


def test_empty_parametrisation_fails_at_collection_in_this_project(request):
    assert request.config.getini("empty_parameter_set_mark") == "fail_at_collect"


@pytest.mark.parametrize(
    "skip",
    [
        "@pytest.mark.skip(reason='later')\n" + ONE,
        "@pytest.mark.xfail(reason='later')\n" + ONE.replace("one'):", "missing'):"),
        "@pytest.mark.xfail(run=False, reason='later')\n" + ONE,
        ONE.replace("build()", "pytest.skip('later')"),
        "@pytest.fixture\ndef gate():\n    pytest.skip('later')\n"
        + ONE.replace("(golden", "(gate, golden"),
    ],
)
def test_skipped_golden_is_a_failure(project, skip):
    project.test(skip)

    result = project.run()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["golden_trace: a golden must be verified; expected a test that *"])


def test_skipped_golden_of_a_gpu_test_is_a_skip(project):
    project.pytester.makeini("[pytest]\nmarkers = cuda: needs a GPU\n")
    project.test("@pytest.mark.cuda\n@pytest.mark.skip(reason='no GPU')\n" + ONE)

    result = project.run()

    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_skipped_test_without_a_golden_is_a_skip(project):
    project.test("@pytest.mark.skip\ndef test_other():\n    pass\n")

    project.run().assert_outcomes(skipped=1)


def test_fixture_that_is_not_used_is_an_error(project):
    project.test("def test_one(golden_trace):\n    pass\n")

    result = project.run()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["golden_trace: must verify something; *got none"])


def test_directory_can_be_chosen(project):
    project.pytester.makeini("[pytest]\ngolden_trace_dir = kept/here\n")
    project.test(ONE)

    project.update().assert_outcomes(passed=1)

    assert (project.pytester.path / "kept" / "here" / "one.json").is_file()
    project.run().assert_outcomes(passed=1)


def test_recording_made_elsewhere_can_be_verified(project):
    project.test(
        "from traces import record\n"
        "def test_one(golden_trace, golden_trace_target):\n"
        "    with record(target=golden_trace_target) as recorder:\n        build()\n"
        "    golden_trace.verify('elsewhere', recorder.recording)\n"
    )
    project.update().assert_outcomes(passed=1)

    assert list(project.goldens()) == ["elsewhere.json"]
    project.run().assert_outcomes(passed=1)


def test_extension_refuses_unnamed_snapshots_and_other_data(project):
    project.test(
        "from traces.pytest.snapshot import GoldenTraceExtension\n"
        "def test_unnamed(snapshot):\n"
        "    assert {'a': 1} == snapshot.use_extension(GoldenTraceExtension)\n"
        "def test_dict(snapshot):\n"
        "    assert {0: 1} == snapshot.use_extension(GoldenTraceExtension)(name='d')\n"
    )

    result = project.update()

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*golden: must be named; expected a name, got 0",
            "*golden: must be a trace; expected Trace or Recording, got dict",
        ]
    )
    assert project.goldens() == {}


def run_without(modules: list[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {modules!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import pytest\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "-p", "no:cacheprovider", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_unrelated_run_needs_neither_syrupy_nor_torch(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_other():\n    assert 'torch' not in sys.modules\n"
    )

    result = run_without(["torch", "syrupy"], "-p", "no:syrupy", cwd=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


def test_fixture_without_syrupy_fails_with_one_line(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one(golden_trace):\n    pass\n")

    result = run_without(["syrupy"], "-p", "no:syrupy", cwd=tmp_path)

    assert result.returncode == 1
    assert "golden_trace: needs syrupy; expected goldentrace[test] installed" in result.stdout


def test_workers_of_xdist_write_and_the_controller_judges_the_inventory(project):
    project.test(NAMED.format(names=["one", "two", "three"]))
    project.update("-k", "three")
    (project.golden / "gone.json").write_text("{}")

    result = project.pytester.runpytest_subprocess("-n", "2", "--snapshot-update", *QUICK)

    result.assert_outcomes(passed=3, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert list(project.goldens()) == ["gone.json", "one.json", "three.json", "two.json"]
    result.stdout.fnmatch_lines(["ERROR golden/gone.json - golden_trace: no test uses it; *"])


def test_workers_of_xdist_refuse_a_golden_of_two_tests(project):
    project.test(NAMED.format(names=["same", "same"]))

    result = project.pytester.runpytest_subprocess("-n", "2", "--golden-update", *QUICK)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*golden same: belongs to one test; expected *, got *"])
