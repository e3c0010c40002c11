"""Results of one side as recordings, run or read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.errors import ToolError
from traces.schema.model import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class SideResults:
    """Results of one side: its scenarios run, or its goldens read.

    Attributes:
        recordings: by scenario, in the order asked; only those with the same result under every
            hash seed that they ran under. Goldens have no sites.
        texts: the canonical traces of the same scenarios; empty for goldens.
        unplayable: the reason, for scenarios that the side has no parts for.
        problems: one line for each of the others.
        builders: the side's stack builders; empty when they were not listed.
        seconds: time it took.
        kept: scenarios that were not run: the recording of an earlier run stands for them.
        selection: which were run and why, in one sentence; empty when all were.
    """

    recordings: Mapping[str, Recording]
    texts: Mapping[str, str] = field(default_factory=dict)
    unplayable: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()
    seconds: float = 0.0
    kept: tuple[str, ...] = ()
    selection: str = ""

    @property
    def called_builders(self) -> dict[str, str]:
        """The builders that were really called, each under a name of its own.

        A package has builders that others call and strategies that are chosen; scenarios are named
        for neither.
        """
        return {
            f"{name} {call.call}": call.callee.partition(".")[0]
            for name, recording in self.recordings.items()
            for call in recording.trace.calls
            if call.role == "builder"
        }

    def require_no_problems(self, *, subject: str, rule: str) -> None:
        """Refuse results that lack a scenario.

        Raises:
            ToolError: a scenario was not run to its end, or is not deterministic.
        """
        if self.problems:
            more = len(self.problems) - 1
            got = self.problems[0] + (f" (and {more} more)" if more else "")
            raise ToolError(subject, rule, expected="no problem", got=got)


def no_scenario_error() -> ToolError:
    """Return the error of a command that had nothing to run."""
    return ToolError("scenarios", "must run", expected="at least one", got=0)
