"""Runs of mutated code of a target, in forks of a process that has everything imported."""

import gc
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from tools.errors import ToolError
from tools.mutation.worker.overlay import (
    can_swap,
    copy_tree,
    link_tree,
    reimport_from,
    swap_code,
)
from tools.mutation.worker.state_fingerprint import fingerprint
from traces.divergence.logs import CallLog, LineLog, LogRequest
from traces.divergence.tracer import log_run
from traces.schema.model import Recording
from traces.targets.common.fork import run_in_fork
from traces.targets.common.scenario import Scenario

COPIES_VARIABLE = "GOLDENTRACE_MUTANT_COPIES"
"""Environment variable: directory for copies of a package; the process that sets it removes it."""


REFUSAL = "must differ only in functions that the imported release can find"


class MutantRunner(Protocol):
    """Installs mutated code and runs scenarios in the calling process, a fork made for that."""

    def install(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Put mutated texts in the place of modules; run with validation or without."""

    def install_by_reimport(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Import the target from a copy with these texts in it, new modules among them."""

    def refusal(self, texts: Mapping[str, str]) -> str:
        """Return why these texts cannot be installed; empty where they can.

        Compiles them as well, for the forks of this process that install them.
        """

    def run_scenario(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Run and record one scenario; return the fingerprint of its stack as well."""

    def log_run(self, scenario: Scenario, *, device: str, request: LogRequest) -> CallLog | LineLog:
        """Run one scenario and return the log that is asked for."""


class NativeMutantRunner:
    """Runs scenarios on this repository's ``assembler``, which lies under a root."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        import_module("torch").set_num_threads(1)
        # A fork begins with everything imported: imports take longer than a scenario.
        import_module("traces.targets.native.script")
        import_module("traces.targets.native.target")
        self._root = root
        gc.freeze()

    def install(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Put mutated texts in the place of modules.

        Without validation, which would stop what is silent in the field.
        """
        if not swap_code(self._root, texts):
            self.install_by_reimport(texts, validates=validates)
        elif not validates:
            _disable_validation()

    def install_by_reimport(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Import the target from a copy with these texts in it, new modules among them."""
        # Removed by the parent process: the fork ends without cleaning up.
        folder = Path(tempfile.mkdtemp(dir=os.environ.get(COPIES_VARIABLE)))
        copy_tree(self._root, texts, package="assembler", to=folder)
        # Every package that imports assembler; what they imported before stays the unchanged code.
        reimport_from(folder, packages=("assembler", "traces.targets", "traces.simulator"))
        if not validates:
            _disable_validation()

    def refusal(self, texts: Mapping[str, str]) -> str:
        """Compile the texts; any can be installed."""
        can_swap(self._root, texts)
        return ""

    def run_scenario(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Run and record one scenario; return the fingerprint of its script as well."""
        scripts: list[object] = []
        run = import_module("traces.targets.native.run").run_scenario
        recording: Recording = run(scenario, device=device, on_script=scripts.append)
        return recording, fingerprint({"stage": scripts})

    def log_run(self, scenario: Scenario, *, device: str, request: LogRequest) -> CallLog | LineLog:
        """Run one scenario and return the log that is asked for."""
        run = import_module("traces.targets.native.run").run_scenario
        target = import_module("traces.targets").get_target("native")
        return log_run(target, request, run=lambda: run(scenario, device=device))


def _disable_validation() -> None:
    # Never left: the fork ends with validation disabled.
    import_module("assembler.validation").validation_disabled().__enter__()


class SglangMutantRunner:
    """Runs scenarios on the sglang under a root, imported once; functions get mutated code."""

    def __init__(self, root: Path) -> None:
        runner: Any = import_module("traces.targets.sglang.scenario_runner")
        # Memory that is never written belongs to the state: it must be the same every time.
        import_module("torch").use_deterministic_algorithms(mode=True, warn_only=True)
        self._root = root
        self._stacks: list[object] = []
        # Not the public runner, which forks once more: the stack would stay in that fork.
        self._session = runner.ReleaseSession(
            root, device=runner.DEFAULT_DEVICE, on_stack=self._stacks.append
        )
        gc.freeze()

    def install(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Swap the code of functions; a release has no validation of ours."""
        if not swap_code(self._root, texts):
            raise ToolError("mutant", REFUSAL, expected="the same module", got=list(texts))

    def install_by_reimport(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Swap the code of functions: importing sglang again takes too long."""
        self.install(texts, validates=validates)

    def refusal(self, texts: Mapping[str, str]) -> str:
        """Compile the texts; return why they cannot take the place of imported functions."""
        return "" if can_swap(self._root, texts) else REFUSAL

    def run_scenario(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Run and record one scenario; return the fingerprint of its stack as well."""
        recording: Recording = self._session.run_scenario(scenario)
        return recording, fingerprint({"stack": self._stacks})

    def log_run(self, scenario: Scenario, *, device: str, request: LogRequest) -> CallLog | LineLog:
        """Run one scenario and return the log that is asked for."""
        return log_run(
            self._session.target, request, run=lambda: self._session.run_scenario(scenario)
        )


class SglangReimportRunner:
    """Runs scenarios on the sglang under a root, imported anew in every fork that installs texts.

    The forks of this process find everything imported but the release and what only it needs.
    """

    def __init__(self, root: Path) -> None:
        import_module("torch").use_deterministic_algorithms(mode=True, warn_only=True)
        self._runner: Any = import_module("traces.targets.sglang.scenario_runner")
        self._root = root
        self._session: Any = None
        gc.freeze()

    def install(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Import the release with these texts in it, new modules among them."""
        # Removed by the parent process: the fork ends without cleaning up.
        folder = Path(tempfile.mkdtemp(dir=os.environ.get(COPIES_VARIABLE)))
        link_tree(self._root, texts, package="sglang", to=folder)
        # Compiled code of refactored files would go beside that of the release.
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        self._session = self._runner.ReleaseSession(folder, device=self._runner.DEFAULT_DEVICE)

    def install_by_reimport(self, texts: Mapping[str, str], *, validates: bool) -> None:
        """Import the release with these texts in it, new modules among them."""
        self.install(texts, validates=validates)

    def refusal(self, texts: Mapping[str, str]) -> str:
        """Return an empty text: every text can be imported."""
        return ""

    def run_scenario(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Run and record one scenario in a fork of its own; states are not compared here."""
        return run_in_fork(lambda: self._session.run_scenario(scenario)), ""

    def log_run(self, scenario: Scenario, *, device: str, request: LogRequest) -> CallLog | LineLog:
        """Run one scenario and return the log that is asked for."""
        return log_run(
            self._session.target, request, run=lambda: self._session.run_scenario(scenario)
        )
