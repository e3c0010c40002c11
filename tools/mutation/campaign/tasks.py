"""What the driver of a campaign asks a worker for, and what it gets; all of it travels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tools.mutation.mutant import Mutant
from tools.workers.protocol import Task
from traces.schema.model import Recording
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBaseline(Task["BaselineResult"]):
    """Play a scenario on the code as it is."""

    scenario: Scenario
    device: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """What the code as it is does in a scenario.

    Attributes:
        recording: with sites, in msgpack; empty when the target cannot play it.
        state: fingerprint of what is left.
        reached: lines executed, by file.
        seconds: time it took, tracing included.
        reason: why it cannot be played.
    """

    name: str
    recording: bytes
    state: str
    reached: Mapping[str, frozenset[int]]
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationBaseline:
    """What every worker compares with.

    Attributes:
        scenarios: by name.
        recordings: of the code as it is, by device and scenario.
        states: its fingerprints, likewise.
    """

    scenarios: Mapping[str, Scenario]
    recordings: Mapping[tuple[str, str], Recording]
    states: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBaseline(Task[int]):
    """Read what to compare with from a file."""

    baseline: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMutant(Task["MutantResult"]):
    """Play a mutant on some scenarios, in this order, until its fate is known.

    Attributes:
        limit_seconds: for each scenario.
        more: scenarios after the first kill, to see which further fields differ.
    """

    mutant: Mutant
    names: tuple[str, ...]
    device: str
    limit_seconds: float
    scenarios_after_kill: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNeutralStack(Task["NeutralStackResult"]):
    """Refactor the code and tell every difference of behaviour in some scenarios.

    Attributes:
        files: what may be refactored.
        steps: the refactors, as :mod:`tools.mutation.neutral.refactor_stack` has them.
        texts: files with another text to begin with.
        limit_seconds: for all scenarios.
    """

    files: tuple[str, ...]
    steps: tuple[Any, ...]
    texts: Mapping[str, str]
    names: tuple[str, ...]
    device: str
    limit_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NeutralStackResult:
    """What came of it.

    Attributes:
        done: kind and file of the refactors that found something to rewrite.
        differences: headlines, or what stopped the play.
    """

    done: tuple[tuple[str, str], ...]
    differences: tuple[str, ...]


MutationTask = RunBaseline | LoadBaseline | RunMutant | RunNeutralStack


class MutantResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mutant.

    Attributes:
        id: of the mutant.
        verdict: ``killed``: it ran to the end and the gate fails; ``loud``: it cannot be imported
            or no scenario that shows it runs to the end; ``survived``: no difference;
            ``unreached``: no scenario executes it; ``equivalent``: proven to be the same.
        cause: kind of the first cause.
        headline: the first cause in a line, or what a loud mutant raised.
        right_line: whether the first cause points at a changed line.
        right_function: whether it points into a function that holds one.
        right_parameter: whether it names a changed parameter; true when none was changed.
        has_parameter: whether the mutant changes a parameter.
        fields: fields of the trace that differ in the scenarios played.
        scenario: the first that kills.
        played: number of scenarios.
        reaching: number of scenarios that execute the changed lines.
        proof: ``bytecode`` or ``state`` for an equivalent one; of a survivor, the
            first scenario that shows it.
        look: the first cause as the traces alone show it, where a second look found another place
            or parameter; why there was none, where it failed.
        seconds: time of the worker.
    """

    id: str
    operator: str
    key: str
    label: str
    verdict: str
    cause: str = ""
    headline: str = ""
    right_line: bool = False
    right_function: bool = False
    right_parameter: bool = False
    has_parameter: bool = False
    fields: tuple[str, ...] = ()
    scenario: str = ""
    played: int = 0
    reaching: int = 0
    proof: str = ""
    look: str = ""
    seconds: float = 0.0
