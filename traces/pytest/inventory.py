"""The goldens of a run: the test of each, and those that no test uses any more.

Imports nothing but pytest until there is a golden: it is part of every run of pytest.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from traces.pytest.stash import FIXTURE, used_goldens

DIRECTORY_OPTION = "golden_trace_dir"
DEFAULT_DIRECTORY = "golden"
CLAIMS = "goldentrace_claims"
"""Key in the input of a worker of pytest-xdist: the folder in which workers claim goldens."""

_OUTPUT = "goldentrace"
_HEAD = b'"schema":"goldentrace.trace/'


@dataclass(slots=True, kw_only=True)
class Inventory:
    """The tests that a run collected and ran, and the goldens that it lacks.

    Attributes:
        collected: tests with the fixture, before any were deselected or sharded.
        ran: those whose body ran.
        folders: of every test that was collected.
        skipped: modules and directories that skipped themselves when they were collected.
        narrowed: number of tests that were deselected, and of workers that crashed.
        clashes: one line for each golden of two tests.
        removed: goldens that the update removed.
        claims: the folder in which workers of pytest-xdist claim goldens.
    """

    collected: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    narrowed: int = 0
    clashes: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    claims: "tempfile.TemporaryDirectory[str] | None" = None

    def collect(self, items: Iterable[pytest.Item]) -> None:
        """Add the tests that were collected."""
        for item in items:
            self.folders.add(str(item.path.parent))
            if FIXTURE in getattr(item, "fixturenames", ()):
                self.collected.add(item.nodeid)

    def claims_folder(self) -> str:
        """Return the folder in which workers of pytest-xdist claim goldens."""
        if self.claims is None:
            self.claims = tempfile.TemporaryDirectory(prefix="goldentrace-")
        return self.claims.name

    def output(self, used: dict[Path, str]) -> dict[str, Any]:
        """Return what a worker of pytest-xdist sends to its controller."""
        return {
            "used": {str(path): test for path, test in used.items()},
            "collected": sorted(self.collected),
            "ran": sorted(self.ran),
            "folders": sorted(self.folders),
            "skipped": sorted(self.skipped),
            "narrowed": self.narrowed,
        }

    def add_worker(self, node: Any, used: dict[Path, str]) -> None:  # noqa: ANN401
        """Add what a worker did, its goldens to ``used``; without output it has crashed."""
        output = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if output is None:
            self.narrowed += 1
            return
        for name in ("collected", "ran", "folders", "skipped"):
            getattr(self, name).update(output[name])
        self.narrowed += output["narrowed"]
        owners = {str(path).casefold(): test for path, test in used.items()}
        for text, test in output["used"].items():
            owner = owners.get(text.casefold(), test)
            if owner != test:
                self.clashes.append(clash_text(Path(text).stem, owner=owner, test=test))
            used.setdefault(Path(text), test)


inventory_key = pytest.StashKey[Inventory]()


def inventory_of(config: pytest.Config) -> Inventory:
    """Return the inventory of a run."""
    return config.stash.setdefault(inventory_key, Inventory())


def clash_text(name: str, *, owner: str, test: str) -> str:
    """Return the line for a golden of two tests."""
    return f"golden {name}: belongs to one test; expected {owner}, got {test}"


def finish(session: pytest.Session) -> None:
    """Fail a complete run that leaves goldens without a test; an update removes them."""
    config = session.config
    inventory, used = inventory_of(config), config.stash.get(used_goldens, {})
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OUTPUT] = inventory.output(used)
        return
    if inventory.claims is not None:
        inventory.claims.cleanup()
    for line in inventory.clashes:
        _report_error(session, line.partition(":")[0], line)
    if session.testsfailed or session.exitstatus != pytest.ExitCode.OK:
        return
    if session.shouldstop or session.shouldfail or inventory.narrowed:
        return
    for path in _orphans(config, inventory, used):
        shown = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else path
        if config.getoption("update_snapshots", default=False) and _remove(path):
            inventory.removed.append(str(shown))
            continue
        text = f"no test uses it; expected a test, got none: pytest --golden-update removes {shown}"
        _report_error(session, str(shown), f"golden_trace: {text}")


def _report_error(session: pytest.Session, place: str, text: str) -> None:
    """Add an error to pytest's own summary, and fail the run."""
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        longrepr: Any = _Text(text)
        report = pytest.CollectReport(
            nodeid=place, outcome="failed", longrepr=longrepr, result=None
        )
        reporter.stats.setdefault("error", []).append(report)


class _Text:
    """A text in the form in which pytest's short summary shows the reason of a failure."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.reprcrash = SimpleNamespace(message=text)

    def toterminal(self, terminal: Any) -> None:  # noqa: ANN401 - a class of pytest
        """Write the text."""
        terminal.line(self._text)


def _remove(path: Path) -> bool:
    """Remove a golden; not in CI, and no file of another kind."""
    from traces.errors import GoldenWriteError
    from traces.pytest.golden_files import refuse_writing_in_ci

    try:
        refuse_writing_in_ci()
    except GoldenWriteError:
        return False
    if not _is_golden(path):
        return False
    path.unlink()
    return True


def _orphans(config: pytest.Config, inventory: Inventory, used: dict[Path, str]) -> Iterator[Path]:
    """Yield the unused goldens of every directory whose tests have all been collected and run."""
    shared = str(config.getini(DIRECTORY_OPTION))
    directories = {path.parent for path in used}
    if not shared:
        directories |= {Path(folder) / DEFAULT_DIRECTORY for folder in inventory.folders}
    for directory in sorted(directories):
        tests = config.rootpath if shared else directory.parent
        if not (_was_asked_for(config, tests) and _has_run(config, inventory, tests, shared)):
            continue
        names = [path.stem for path in used if path.parent == directory]
        if names or any(map(_is_golden, directory.glob("*.json"))):
            from traces.pytest.golden_files import orphans

            found = (directory / f"{name}.json" for name in orphans(directory, names))
            yield from (path for path in found if names or _is_golden(path))


def _has_run(config: pytest.Config, inventory: Inventory, tests: Path, shared: str) -> bool:
    """Return whether all tests ran whose goldens may lie in the directory of ``tests``."""
    skipped = map(Path, inventory.skipped)
    if any(shared or path.parent == tests or tests.is_relative_to(path) for path in skipped):
        return False
    missing = inventory.collected - inventory.ran
    files = (config.rootpath / nodeid.partition("::")[0] for nodeid in missing)
    return not any(shared or file.parent == tests for file in files)


def _is_golden(path: Path) -> bool:
    with path.open("rb") as file:
        return _HEAD in file.read(80).replace(b" ", b"")


def _was_asked_for(config: pytest.Config, directory: Path) -> bool:
    """Return whether this run was asked for every test under a directory."""
    option = vars(config.option)
    if any(option.get(narrowing) for narrowing in ("ignore", "ignore_glob", "lf")):
        return False
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return True
    asked = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    return any(path.is_dir() and directory.resolve().is_relative_to(path) for path in asked)
