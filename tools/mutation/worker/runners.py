"""How a worker plays mutated code of a target: in copies of a process that has not imported it."""

import gc
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from tools.errors import ToolError
from tools.mutation.worker.overlay import copy_tree, reimport_from, swap_code
from tools.mutation.worker.state_fingerprint import fingerprint
from traces.divergence import CallLog, LineLog, log_run
from traces.recording.probes import Target
from traces.schema.model import Recording
from traces.targets.common.scenario import Scenario

COPIES_VARIABLE = "GOLDENTRACE_MUTANT_COPIES"
"""Environment variable: where copies of a package are made; the stage that sets it removes them."""
COPY_PREFIX = "goldentrace-mutant-"


class MutantRunner(Protocol):
    """Plays scenarios in the process it is called in, which is a copy made for that."""

    def install(self, texts: Mapping[str, str]) -> None:
        """Let mutated texts take the place of modules."""

    def install_by_reimport(self, texts: Mapping[str, str]) -> None:
        """Import the target from a copy with these texts in it, new modules among them."""

    def play(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Play and record one scenario; return the fingerprint of what is left as well."""

    def log_run(
        self, scenario: Scenario, *, device: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        """Play one scenario and log all calls, or the lines of one call, by function and number."""


class NativeMutantRunner:
    """Plays this repository's ``assembler``.

    Args:
        root: directory that holds it.
    """

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        torch = import_module("torch")
        torch.set_num_threads(1)
        # Warm: a copy begins with everything imported, which takes longer than playing.
        import_module("traces.targets.native.script")
        import_module("traces.targets.native.target")
        self._root = root
        gc.freeze()

    def install(self, texts: Mapping[str, str]) -> None:
        """Put mutated texts in, and open the walls: they would stop what is silent elsewhere."""
        if not swap_code(self._root, texts):
            self.install_by_reimport(texts)
            return
        _disable_validation()

    def install_by_reimport(self, texts: Mapping[str, str]) -> None:
        """Import the target from a copy with these texts in it, new modules among them."""
        # Removed when the copy of this process is gone: it ends without cleaning up.
        folder = Path(tempfile.mkdtemp(prefix=COPY_PREFIX, dir=os.environ.get(COPIES_VARIABLE)))
        copy_tree(self._root, texts, package="assembler", to=folder)
        reimport_from(folder, packages=("assembler", "traces.targets", "traces.simulator"))
        _disable_validation()

    def play(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Play and record one scenario; return the fingerprint of what is left as well."""
        run_scenario = import_module("traces.targets.native.run").run_scenario
        scripts: list[object] = []
        recording = run_scenario(scenario, device=device, on_script=scripts.append)
        return recording, fingerprint({"stage": scripts})

    def log_run(
        self, scenario: Scenario, *, device: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        """Play one scenario and log all calls, or the lines of one call, by function and number."""
        play = import_module("traces.targets.native.run").run_scenario
        target: Target = import_module("traces.targets").get_target("native")
        return log_run(target, call, run=lambda: play(scenario, device=device))


def _disable_validation() -> None:
    # Never left: the copy ends with the walls open.
    import_module("assembler.validation_switch").without_walls().__enter__()


class SglangMutantRunner:
    """Plays the sglang under a root, imported once; mutated functions get their code swapped.

    Args:
        root: directory that holds it.
    """

    def __init__(self, root: Path) -> None:
        runner: Any = import_module("traces.targets.sglang.scenario_runner")
        # Memory that nobody wrote belongs to the state: it must be the same every time.
        import_module("torch").use_deterministic_algorithms(mode=True, warn_only=True)
        self._root = root
        self._stack: object = None
        # Not SglangScenarioRunner: it forks once more, and the stack would stay in that fork.
        self._session = runner.ReleaseSession(
            root, device=runner.DEFAULT_DEVICE, on_stack=self._keep_stack
        )
        gc.freeze()

    def _keep_stack(self, stack: object) -> None:
        self._stack = stack

    def install(self, texts: Mapping[str, str]) -> None:
        """Swap the code of functions."""
        if not swap_code(self._root, texts):
            rule = "must differ in functions only"
            raise ToolError("mutant", rule, expected="the same module otherwise", got=list(texts))

    def install_by_reimport(self, texts: Mapping[str, str]) -> None:
        """Swap the code of functions: importing sglang again takes too long."""
        self.install(texts)

    def play(self, scenario: Scenario, *, device: str) -> tuple[Recording, str]:
        """Play and record one scenario; return the fingerprint of its stack as well."""
        recording: Recording = self._session.run_scenario(scenario)
        return recording, fingerprint({"stack": self._stack})

    def log_run(
        self, scenario: Scenario, *, device: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        """Play one scenario and log all calls, or the lines of one call, by function and number."""
        return log_run(self._session.target, call, run=lambda: self._session.run_scenario(scenario))
