"""Tasks of a campaign for worker processes, and their results."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tools.mutation.mutant import Mutant, RefactorStep
from tools.workers.protocol import Task
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings of the runs of a campaign.

    Attributes:
        device: as on the command line.
        limit_seconds: time that one scenario may take.
        is_gate: whether mutants are judged as ``gate`` would: validation stays enabled, and a run
            that ends with an error is a difference like any other.
    """

    device: str
    limit_seconds: float
    is_gate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """One scenario run on the unchanged code.

    Attributes:
        recording: with sites, in msgpack; empty when the target does not support the scenario.
        state: fingerprint of the stack after the run; empty when it is not the same every time.
        reached: executed lines, by file.
        seconds: duration, tracing of lines included.
        reason: why the scenario is not supported.
    """

    name: str
    recording: bytes = b""
    state: str = ""
    reached: Mapping[str, frozenset[int]]
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBaseline(Task[BaselineResult]):
    """Run a scenario on the unchanged code and record the lines of some files that it executes."""

    scenario: Scenario
    settings: RunSettings
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBaseline(Task[int]):
    """Set the results that later runs are compared with; return their number."""

    scenarios: Mapping[str, Scenario]
    results: Mapping[str, BaselineResult]


class MutantResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one mutant.

    Attributes:
        verdict: ``killed``: it differs in behaviour where it ran to the end; ``loud``: it cannot be
            imported or no scenario that shows it runs to the end; ``survived``: no difference;
            ``unreached``: no scenario executes it; ``equivalent``: proven to be the same;
            ``unjudged``: judged as the gate does, it has no cause and the gate would exit with 2.
        cause: kind of the first cause.
        headline: the first cause in a line, or the error of a loud mutant.
        right_line: whether the first cause points at a changed line.
        right_function: whether it points into a function that contains one.
        right_parameter: whether it names a changed parameter; true when none was changed.
        has_parameter: whether the mutant changes a parameter.
        fields: fields of the trace that differ in the scenarios that were run.
        scenario: the first that kills.
        played: number of scenarios that were run.
        reaching: number of scenarios that execute the changed lines.
        proof: ``bytecode`` or ``state`` for an equivalent one; of a survivor, the first scenario
            that leaves another state, empty where states cannot be read.
        look: the first cause as the traces alone show it, where the log of calls has another place
            or parameter; the error where the log failed.
        problem: why the gate would exit with 2, whether or not it finds a cause.
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
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMutant(Task[MutantResult]):
    """Run a mutant on some scenarios, in this order, until its verdict is certain."""

    mutant: Mutant
    names: tuple[str, ...]
    settings: RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class NeutralStackResult:
    """Differences after a stack of refactors.

    Attributes:
        done: kind and file of the refactors that found something to rewrite.
        differences: headlines of causes, or the error that ended the run.
    """

    done: tuple[tuple[str, str], ...]
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNeutralStack(Task[NeutralStackResult]):
    """Refactor the code and return every difference of behaviour in some scenarios.

    Attributes:
        files: the files that may be refactored.
        texts: files that get another text afterwards.
    """

    files: tuple[str, ...]
    steps: tuple[RefactorStep, ...]
    texts: Mapping[str, str]
    names: tuple[str, ...]
    settings: RunSettings
