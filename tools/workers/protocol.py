"""Tasks, replies and the two protocols that worker processes and their pool share.

A task is a frozen dataclass that travels to a worker process and is answered there by the one
handler that the worker class declares for its type. ``Task[Result]`` names the type of the answer.

A campaign uses the pool like this::

    class RunMutant(Task[MutantResult]): ...      # a picklable dataclass

    class MutationWorker:                         # made in every worker process
        def __init__(self, root: Path) -> None: ...
        @property
        def handlers(self) -> Handlers:
            return {LoadBaseline: self.load_baseline, RunMutant: self.run_mutant}

    with WorkerPool(launcher=launcher, size=8, limit_seconds=1800) as pool:
        pool.broadcast(LoadBaseline(baseline=path))
        for reply in pool.results(tasks, tries=3):
            ...  # reply.number, reply.task, reply.result; see TaskReply

Tasks may be generated lazily and depend on earlier replies. One that takes longer than
``limit_seconds`` loses its worker.

This module and :mod:`tools.workers.serve` import the standard library alone: they run in other
interpreters before the side's dependencies are on ``sys.path``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from traces.divergence.logs import CallLog, LineLog, LogRequest  # noqa: F401 - named in a string
    from traces.targets.common.scenario import Scenario

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Task(Generic[Result_co]):
    """One request to a worker process; a handler answers it with a ``Result``."""

    __slots__ = ()


Handlers: TypeAlias = Mapping[type[Task[Any]], Callable[[Any], object]]


class Worker(Protocol):
    """The object that a worker process makes of its ``module:class`` and its root directory."""

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles, each with the method that answers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    """First message of a worker process: its object is made and tasks may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """Answer to a task that has no result.

    Attributes:
        reason: the exception's type and message, or what became of the worker, on one line.
        is_lost: whether the worker died or hung; otherwise the handler raised.
    """

    reason: str
    is_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReply(Generic[Result]):
    """One task with its result.

    Attributes:
        number: position of the task in the iterable.
        seed: hash seed of the worker.
    """

    number: int
    task: Task[Result]
    seed: int
    result: Result | TaskFailed


class TaskExecutor(Protocol):
    """Runs tasks: a :class:`~tools.workers.pool.WorkerPool`, or a cluster of such pools."""

    def broadcast(self, task: Task[Any]) -> None:
        """Run a task in every worker before its next other task."""

    def results(self, tasks: Iterable[Task[Result]], *, tries: int) -> Iterator[TaskReply[Result]]:
        """Yield the reply to each task, in the order of completion.

        Raises:
            ToolError: a worker cannot be started, or a broadcast task failed in it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Everything by which a change of a package could change one run.

    Attributes:
        functions: for each file of the package, relative to its root, the functions of modules and
            classes that were executed; an empty name stands for the module's own code.
        opened: files of the package that were opened other than to import them.
        variables: environment variables that were read.
        unsure: why more may have been reached; empty in the usual case.
        facts: what was learnt from the text of files: by ``module:function``, which learns it from
            a text, the ``repr`` of its result for each file.
        names: names that were looked for among those that the functions of a module use.
    """

    functions: Mapping[str, tuple[str, ...]]
    opened: tuple[str, ...]
    variables: tuple[str, ...]
    unsure: tuple[str, ...]
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def merge_reaches(reaches: Iterable[Reach]) -> Reach:
    """Return what any of some runs reached."""
    every = list(reaches)
    functions: dict[str, set[str]] = {}
    facts: dict[str, dict[str, str]] = {}
    for reach in every:
        for file, names in reach.functions.items():
            functions.setdefault(file, set()).update(names)
        for fact, values in reach.facts.items():
            facts.setdefault(fact, {}).update(values)
    return Reach(
        functions={file: tuple(sorted(names)) for file, names in sorted(functions.items())},
        opened=_union(reach.opened for reach in every),
        variables=_union(reach.variables for reach in every),
        unsure=_union(reach.unsure for reach in every),
        facts=facts,
        names=_union(reach.names for reach in every),
    )


def _union(texts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({text for some in texts for text in some}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One scenario that was run.

    Attributes:
        text: the canonical trace.
        sites: source lines of its records, as JSON; empty without any.
        reach: what it reached; None when that was not recorded.
        seconds: time it took.
    """

    text: str
    sites: str
    reach: Reach | None = field(default=None, compare=False)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedScenario:
    """A scenario that this side has no parts for, with the reason: no fault of the side."""

    reason: str
    reach: Reach | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScenario(Task[RunResult | UnsupportedScenario]):
    """Run one scenario and return its trace.

    The whole scenario travels: computing the covering array again takes most of a second.
    """

    scenario: "Scenario"
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadImportReach(Task["Reach | None"]):
    """Return what the import of the target reached: every scenario depends on it.

    None on a GPU.
    """

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayScenario(Task["CallLog | LineLog"]):
    """Run one scenario again and log its calls, or the lines of one call.

    Attributes:
        last_step: step behind which the run ends; empty for the whole scenario.
    """

    scenario: "Scenario"
    device: str
    request: "LogRequest"
    last_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBuilders(Task[tuple[str, ...]]):
    """Return the names of the target's stack builders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDefaults(Task[dict[str, dict[str, Any]]]):
    """Return the plain defaults of the parameters of everything whose calls are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProvenance(Task[dict[str, str]]):
    """Return device and versions of the worker process."""

    device: str
