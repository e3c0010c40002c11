"""What every verb works with: the checkout, the scenarios, and somebody to play them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.crew import open_crew
from tools.errors import ToolError
from tools.gate import Case
from tools.goldens import chosen
from tools.launching import Isolated, Launcher, Spawned
from tools.playing import Troupe
from tools.sides import parse_side
from tools.standing import Standing, standing
from tools.targets import NATIVE, Target, known_target, scenarios_of
from tools.testimony import OpenTroupe
from traces.scenarios import Scenario

DEVICES = ("auto", "cpu", "sim", "cuda", "cuda:N")
POLICIES = ("latest", "earliest", "starve", "random")
# `cuda:N` is one of several GPUs, `sim:POLICY:SEED` one schedule of the simulated device.
_DEVICE = re.compile(rf"auto|cpu|sim|cuda(:[0-9]+)?|sim:({'|'.join(POLICIES)}):[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One checkout and one target.

    Attributes:
        scenarios: by name, in registry order.
        open_troupe: starts whoever plays a side that stands.
        open_auditors: the same for an audit.
    """

    root: Path
    target: str
    scenarios: Mapping[str, Scenario]
    open_troupe: OpenTroupe
    open_auditors: OpenTroupe

    @property
    def builders(self) -> dict[str, str]:
        """Builder of every scenario, by scenario name."""
        return {name: scenario.builder for name, scenario in self.scenarios.items()}

    def case(
        self,
        names: list[str],
        *,
        base: str,
        head: str,
        python: Path | None,
        device: str,
        pre_merge: bool,
        strict: bool,
    ) -> Case:
        """Return what is to be judged, in words of the command line.

        Raises:
            ToolError: a scenario, side or device is unknown.
        """
        return Case(
            root=self.root,
            target=self.target,
            base=parse_side(base, root=self.root, target=self.target),
            head=parse_side(head, root=self.root, target=self.target),
            python=python,
            device=known_device(device),
            names=chosen(names, known=self.scenarios),
            is_whole=not names,
            scenarios=self.scenarios,
            pre_merge=pre_merge,
            strict=strict,
        )

    @contextmanager
    def troupe_of(self, side: str, *, python: Path | None) -> Iterator[Troupe]:
        """Yield whoever plays one side, named as on the command line.

        Raises:
            ToolError: the side is unknown or cannot be played.
        """
        parsed = parse_side(side, root=self.root, target=self.target)
        with (
            standing(parsed, root=self.root, python=python) as place,
            self.open_troupe(place) as troupe,
        ):
            yield troupe


def open_desk(root: Path, *, target: str, limit_seconds: float) -> Desk:
    """Return a desk for one target.

    Raises:
        ToolError: the target is unknown.
    """
    known = known_target(target)
    audited = replace(known, stage=known.audit_stage)
    return Desk(
        root=root,
        target=target,
        scenarios=scenarios_of(known),
        open_troupe=lambda place: open_crew(_launcher(known, place), limit_seconds=limit_seconds),
        open_auditors=lambda place: open_crew(
            _launcher(audited, place), limit_seconds=limit_seconds
        ),
    )


def _launcher(target: Target, place: Standing) -> Launcher:
    if target.name == NATIVE:
        return Spawned(stage=target.stage, root=place.root)
    return Isolated(stage=target.stage, root=place.root, python=place.python, layers=place.layers)


def known_device(text: str) -> str:
    """Return the device of that name.

    Raises:
        ToolError: there is none.
    """
    if _DEVICE.fullmatch(text) is None:
        expected = ", ".join((*DEVICES, "sim:POLICY:SEED"))
        raise ToolError("--device", "must be known", expected=expected, got=repr(text))
    return text
