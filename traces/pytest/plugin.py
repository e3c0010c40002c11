"""The pytest plug-in with the fixture ``golden_trace``.

.. code-block:: python

    def test_my_stack(golden_trace):
        with golden_trace("my_stack"):
            build_my_stack(...)

records what the block does and compares it with ``golden/my_stack.json`` beside the test module.
``pytest --snapshot-update`` writes the golden, once the whole test has passed.

The plugin is loaded in every pytest run of an environment it is installed in, so it imports nothing
but pytest until the fixture is used. It needs syrupy then.
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from traces.pytest.stash import results_of_test, used_goldens

if TYPE_CHECKING:
    from traces.pytest.fixture import GoldenTrace
    from traces.recording.probes import Target

FIXTURE = "golden_trace"

_has_failed = pytest.StashKey[bool]()
_deselected = pytest.StashKey[int]()
_orphans = pytest.StashKey[tuple[Path, ...]]()
_WORKER_KEY = "goldentrace"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(
        "golden_trace_dir",
        "directory of golden traces, relative to the root directory; "
        "default: 'golden' beside each test module",
        default="",
    )


@pytest.fixture
def golden_trace_target() -> "str | Target":
    """Return the target that ``golden_trace`` records; override it to record another."""
    return "native"


@pytest.fixture
def golden_trace(
    request: pytest.FixtureRequest, golden_trace_target: "str | Target"
) -> "Iterator[GoldenTrace]":
    """Provide ``golden_trace(name)``, which records a block and compares it with its golden.

    A test that has this fixture must use it.
    """
    if not request.config.pluginmanager.hasplugin("syrupy"):
        pytest.fail(
            "golden_trace: needs syrupy; expected goldentrace[test] installed, got no syrupy",
            pytrace=False,
        )
    from traces.pytest.fixture import GoldenTrace

    fixture = GoldenTrace(request, golden_trace_target)
    yield fixture
    if not fixture.is_used and not request.node.stash.get(_has_failed, False):
        pytest.fail(
            "golden_trace: must verify something; expected a with block, got none", pytrace=False
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse to skip golden tests; write goldens once all of a test has passed."""
    report = yield
    if not isinstance(item, pytest.Function) or FIXTURE not in item.fixturenames:
        return report
    if report.skipped and item.get_closest_marker("cuda") is None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
        _mark_failed(report, f"a golden must be verified; expected a test that runs, got {reason}")
    if report.failed:
        item.stash[_has_failed] = True
    if report.when == "teardown":
        _write_or_discard(item, report)
    return report


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that do not run: the inventory is not checked then."""
    for item in items:
        stash = item.config.stash
        stash[_deselected] = stash.get(_deselected, 0) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - a class of pytest-xdist
    """Collect the goldens that a worker of pytest-xdist used."""
    output = node.workeroutput.get(_WORKER_KEY, {}) if hasattr(node, "workeroutput") else {}
    stash = node.config.stash
    used = {Path(path): test for path, test in output.get("used", {}).items()}
    stash.setdefault(used_goldens, {}).update(used)
    # A worker without output has crashed: the inventory is not complete then.
    stash[_deselected] = stash.get(_deselected, 0) + output.get("deselected", 1)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a complete run that leaves goldens without a test."""
    config = session.config
    used = config.stash.get(used_goldens, {})
    if hasattr(config, "workeroutput"):
        config.workeroutput[_WORKER_KEY] = {
            "used": {str(path): test for path, test in used.items()},
            "deselected": config.stash.get(_deselected, 0),
        }
    elif used and session.testsfailed == 0 and not config.stash.get(_deselected, 0):
        orphans = tuple(_find_orphans(config, used))
        config.stash[_orphans] = orphans
        if orphans and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the goldens without a test."""
    for path in config.stash.get(_orphans, ()):
        terminalreporter.write_line(
            f"golden_trace: no test uses {path}; expected a test, got none: delete it by hand",
            red=True,
        )


def _write_or_discard(item: pytest.Item, report: pytest.TestReport) -> None:
    """Write the pending goldens of a test that passed, and discard others."""
    if not item.config.pluginmanager.hasplugin("syrupy"):
        return
    from traces.errors import GoldenWriteError
    from traces.pytest.snapshot import pending_writes

    if not item.stash.get(_has_failed, False):
        try:
            pending_writes.commit()
        except GoldenWriteError as error:
            _mark_failed(report, str(error))
        return
    for result in item.stash.get(results_of_test, []):
        result.created = result.updated = result.success = False
    for path in pending_writes.discard():
        # Of a teardown that passed pytest shows the sections that have the word in their name.
        text = f"{path} was not written: the test failed"
        report.sections.append(("golden_trace teardown", text))


def _mark_failed(report: pytest.TestReport, message: str) -> None:
    report.outcome = "failed"
    # A failure that still looks expected would not count for the exit status.
    vars(report).pop("wasxfail", None)
    report.longrepr = message if message.startswith("golden") else f"golden_trace: {message}"


def _find_orphans(config: pytest.Config, used: dict[Path, str]) -> Iterator[Path]:
    """Yield the unused files of every golden directory whose tests have all run."""
    from traces.pytest.golden_files import orphans

    shared = str(config.getini("golden_trace_dir"))
    for directory in sorted({path.parent for path in used}):
        tests = config.rootpath if shared else directory.parent
        if _has_run_all(config, tests):
            names = [path.stem for path in used if path.parent == directory]
            yield from (directory / f"{name}.json" for name in orphans(directory, names))


def _has_run_all(config: pytest.Config, directory: Path) -> bool:
    """Return whether this run was asked for every test under a directory."""
    option = vars(config.option)
    if any(option.get(narrowing) for narrowing in ("ignore", "ignore_glob", "lf")):
        return False
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return True
    asked = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    return any(path.is_dir() and directory.resolve().is_relative_to(path) for path in asked)
