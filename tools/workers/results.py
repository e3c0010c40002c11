"""What comes of playing scenarios, and whether twice the same came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tools.errors import ToolError
from tools.workers.protocol import FailedRequest, RunResult, UnsupportedScenario, WorkerReply
from traces.divergence import CallLog, LineLog
from traces.schema.canonical import parse, parse_sites
from traces.schema.model import Recording
from traces.targets.native.scenarios import NativeScenario

HASH_SEEDS = (0, 4242)

ProgressCallback: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """What came of playing some scenarios.

    Attributes:
        performances: by scenario name, in the order asked; only those that were played under every
            hash seed with the same result.
        unplayable: why, for those that the side has no way to play.
        problems: one line for each of the others.
    """

    by_scenario: Mapping[str, RunResult]
    unplayable: Mapping[str, str]
    problems: tuple[str, ...]


class ScenarioRunner(Protocol):
    """Whoever can play scenarios of one side: a :class:`Crew`, or a fake in a test."""

    def run(
        self, scenarios: Sequence[NativeScenario], *, device: str, on_played: ProgressCallback
    ) -> RunResults:
        """Play scenarios; ``on_played`` hears each name when its last performance is in."""

    def replay(
        self, scenario: NativeScenario, *, device: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        """Play a scenario again; return the log of its calls, or of the lines of one call.

        Args:
            scenario: one that can be played.
            device: as for :meth:`play`.
            call: function and number of the call; None for all calls.

        Raises:
            ToolError: it cannot be played again.
        """

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the side."""

    def provenance(self, *, device: str) -> dict[str, str]:
        """Return device and versions of what plays."""


def combine_replies(replies: Mapping[str, Mapping[int, WorkerReply]]) -> RunResults:
    """Return what was played alike under every hash seed, and a problem for everything else."""
    performances: dict[str, RunResult] = {}
    unplayable: dict[str, str] = {}
    problems: list[str] = []
    for name, by_seed in replies.items():
        first = by_seed[HASH_SEEDS[0]]
        if all(reply == first for reply in by_seed.values()) and isinstance(
            first, UnsupportedScenario
        ):
            unplayable[name] = first.reason
        elif (problem := _problem(name, by_seed)) is not None:
            problems.append(problem)
        elif isinstance(first, RunResult):
            performances[name] = first
    return RunResults(by_scenario=performances, unplayable=unplayable, problems=tuple(problems))


def parse_recordings(results: RunResults) -> dict[str, Recording]:
    """Return what was played as recordings."""
    return {
        name: Recording(
            trace=parse(performance.text, subject=name),
            sites=parse_sites(performance.sites, subject=name) if performance.sites else None,
        )
        for name, performance in results.by_scenario.items()
    }


def unplayable_notes(side: str, unplayable: Mapping[str, str]) -> tuple[str, ...]:
    """Return one line for each reason why a side cannot play scenarios; the verdict names them."""
    return tuple(
        f"{side} cannot play {len(names)} {'scenarios' if len(names) > 1 else 'scenario'}: {reason}"
        for reason, names in group_by_reason(unplayable)
    )


def group_by_reason(unplayable: Mapping[str, str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each reason once, with the names of its scenarios."""
    names: dict[str, list[str]] = {}
    for name, reason in unplayable.items():
        names.setdefault(reason, []).append(name)
    return tuple((reason, tuple(of)) for reason, of in names.items())


def _problem(name: str, by_seed: Mapping[int, WorkerReply]) -> str | None:
    texts: list[str] = []
    for seed in HASH_SEEDS:
        reply = by_seed[seed]
        if not isinstance(reply, RunResult):
            got = reply.reason if isinstance(reply, FailedRequest | UnsupportedScenario) else reply
            rule = f"must be played to the end (PYTHONHASHSEED={seed})"
            return str(ToolError(name, rule, expected="a trace", got=got))
        texts.append(reply.text)
    if all(text == texts[0] for text in texts):
        return None
    rule = f"must be deterministic over PYTHONHASHSEED={' and '.join(map(str, HASH_SEEDS))}"
    one, other = _first_difference(texts[0], texts[1])
    return str(ToolError(name, rule, expected=one, got=other))


def _first_difference(one: str, other: str) -> tuple[str, str]:
    lines, others = one.splitlines(), other.splitlines()
    for number, (line, another) in enumerate(zip(lines, others, strict=False), start=1):
        if line != another:
            return f"line {number} `{line.strip()}`", f"`{another.strip()}`"
    return f"{len(lines)} lines", f"{len(others)} lines"
