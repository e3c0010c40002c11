"""What every verb works with: the checkout, the scenarios, and somebody to play them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.errors import ToolError
from tools.gate.request import GateRequest
from tools.gate.side_results import RunnerFactory
from tools.goldens.files import select_scenarios
from tools.sides.parse import parse_side
from tools.sides.prepare import PreparedSide, prepare_side
from tools.sides.targets import NATIVE, TargetSpec, find_target, load_scenarios
from tools.workers.launch import IsolatedLauncher, SpawnLauncher, WorkerLauncher
from tools.workers.pool import WorkerPool, core_count
from tools.workers.results import HASH_SEEDS
from traces.targets.common.scenario import Scenario

DEVICES = ("auto", "cpu", "sim", "cuda", "cuda:N")
POLICIES = ("latest", "earliest", "starve", "random")
# `cuda:N` is one of several GPUs, `sim:POLICY:SEED` one schedule of the simulated device.
_DEVICE_PATTERN = re.compile(rf"auto|cpu|sim|cuda(:[0-9]+)?|sim:({'|'.join(POLICIES)}):[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One checkout and one target.

    Attributes:
        scenarios: by name, in registry order.
        open_troupe: starts whoever plays a side that stands.
        open_auditors: the same for an audit.
    """

    root: Path
    target: str
    scenarios: Mapping[str, Scenario]
    open_runner: RunnerFactory
    open_audit_runner: RunnerFactory

    @property
    def builders(self) -> dict[str, str]:
        """Builder of every scenario, by scenario name."""
        return {name: scenario.builder for name, scenario in self.scenarios.items()}

    def build_request(
        self,
        names: list[str],
        *,
        base: str,
        head: str,
        python: Path | None,
        device: str,
        pre_merge: bool,
        strict: bool,
    ) -> GateRequest:
        """Return what is to be judged, in words of the command line.

        Raises:
            ToolError: a scenario, side or device is unknown.
        """
        return GateRequest(
            root=self.root,
            target=self.target,
            base=parse_side(base, root=self.root, target=self.target),
            head=parse_side(head, root=self.root, target=self.target),
            python=python,
            device=parse_device(device),
            names=select_scenarios(names, known=self.scenarios),
            is_whole=not names,
            scenarios=self.scenarios,
            pre_merge=pre_merge,
            strict=strict,
        )

    @contextmanager
    def open_side(self, side: str, *, python: Path | None) -> Iterator[WorkerPool]:
        """Yield whoever plays one side, named as on the command line.

        Raises:
            ToolError: the side is unknown or cannot be played.
        """
        parsed = parse_side(side, root=self.root, target=self.target)
        with (
            prepare_side(parsed, root=self.root, python=python) as place,
            self.open_runner(place) as troupe,
        ):
            yield troupe


def open_session(root: Path, *, target: str, limit_seconds: float) -> Session:
    """Return a desk for one target.

    Raises:
        ToolError: the target is unknown.
    """
    known = find_target(target)
    audited = replace(known, worker_class=known.audit_worker_class)
    return Session(
        root=root,
        target=target,
        scenarios=load_scenarios(known),
        open_runner=lambda place: _open_pool(
            _build_launcher(known, place), limit_seconds=limit_seconds
        ),
        open_audit_runner=lambda place: _open_pool(
            _build_launcher(audited, place), limit_seconds=limit_seconds
        ),
    )


def _open_pool(launcher: WorkerLauncher, *, limit_seconds: float) -> WorkerPool:
    """Return a pool that uses all cores, divided between the hash seeds."""
    size = max(1, core_count() // len(HASH_SEEDS))
    return WorkerPool(launcher=launcher, size=size, limit_seconds=limit_seconds, seeds=HASH_SEEDS)


def _build_launcher(target: TargetSpec, place: PreparedSide) -> WorkerLauncher:
    if target.name == NATIVE:
        return SpawnLauncher(worker_class=target.worker_class, root=place.root)
    return IsolatedLauncher(
        worker_class=target.worker_class, root=place.root, python=place.python, layers=place.layers
    )


def parse_device(text: str) -> str:
    """Return the device of that name.

    Raises:
        ToolError: there is none.
    """
    if _DEVICE_PATTERN.fullmatch(text) is None:
        expected = ", ".join((*DEVICES, "sim:POLICY:SEED"))
        raise ToolError("--device", "must be known", expected=expected, got=repr(text))
    return text
