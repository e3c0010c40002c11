"""The pytest plug-in with the fixture ``golden_trace``.

.. code-block:: python

    def test_my_stack(golden_trace):
        with golden_trace("my_stack", watch=["mypkg.pools", "mypkg.cache:Cache"]):
            build_my_stack(...)

records what the block does and compares it with ``golden/my_stack.json`` beside the test module.
``pytest --golden-update`` writes the golden, once the whole test has passed.

The plugin is loaded in every pytest run of an environment it is installed in, so it imports nothing
but pytest until the fixture is used. It needs syrupy then.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from traces.pytest.inventory import CLAIMS, DIRECTORY_OPTION, finish, inventory_of
from traces.pytest.stash import FIXTURE, results_of_test, used_goldens

if TYPE_CHECKING:
    from traces.pytest.fixture import GoldenTrace
    from traces.recording.probes import Target

_has_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option and the name of ours for syrupy's option to update."""
    parser.getgroup("goldentrace").addoption(
        "--golden-update",
        action="store_true",
        default=False,
        dest="update_snapshots",
        help="write golden traces, and remove those that no test uses",
    )
    parser.addini(
        DIRECTORY_OPTION,
        "directory of golden traces, relative to the root directory; "
        "default: 'golden' beside each test module",
        default="",
    )


@pytest.fixture
def golden_trace_target() -> "str | Target | None":
    """Return the target that ``golden_trace`` records; override it to record another.

    None is ``[tool.goldentrace] watch`` of the project, and where it has none, ``native``.
    """
    return None


@pytest.fixture
def golden_trace(
    request: pytest.FixtureRequest, golden_trace_target: "str | Target | None"
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
    if request.node.stash.get(_has_failed, False):
        return
    if not fixture.is_used:
        pytest.fail(
            "golden_trace: must verify something; expected a with block, got none", pytrace=False
        )
    fixture.require_comparisons()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse to skip golden tests; write goldens once all of a test has passed."""
    report = yield
    if not isinstance(item, pytest.Function) or FIXTURE not in item.fixturenames:
        return report
    if report.when == "setup":
        # A rerun of the same item, by pytest-rerunfailures, starts afresh.
        item.stash[_has_failed] = False
        item.stash[results_of_test] = []
    if report.when == "call" and not report.skipped:
        inventory_of(item.config).ran.add(item.nodeid)
    if report.skipped and item.get_closest_marker("cuda") is None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
        _mark_failed(report, f"a golden must be verified; expected a test that runs, got {reason}")
    if report.failed:
        item.stash[_has_failed] = True
    if report.when == "teardown":
        _write_or_discard(item, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Note the collected tests, before plug-ins leave some out: not all announce that."""
    inventory = inventory_of(config)
    inventory.collect(items)
    before = len(items)
    yield
    inventory.narrowed += max(0, before - len(items))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Note a module that skips itself: the goldens of its tests are not orphans."""
    report = yield
    if report.skipped:
        inventory_of(collector.config).skipped.add(str(collector.path))
    return report


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that do not run: the inventory is not checked then."""
    for item in items:
        inventory_of(item.config).narrowed += 1


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - a class of pytest-xdist
    """Give all workers of pytest-xdist one folder in which they claim goldens."""
    node.workerinput[CLAIMS] = inventory_of(node.config).claims_folder()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - a class of pytest-xdist
    """Collect the goldens that a worker of pytest-xdist used."""
    used = node.config.stash.setdefault(used_goldens, {})
    inventory_of(node.config).add_worker(node, used)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a complete run that leaves goldens without a test."""
    finish(session)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the goldens that were removed."""
    for path in inventory_of(config).removed:
        terminalreporter.write_line(f"golden_trace: removed {path}, which no test uses")


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
