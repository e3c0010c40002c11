"""The first difference of a gate, told while the other scenarios still run."""

from dataclasses import dataclass, field

from tools.console import print_status
from tools.gate.request import GateRequest
from tools.sides.open import read_recording
from tools.sides.results import SideResults
from tools.sides.targets import find_target, load_aliases
from tools.workers.protocol import RunResult, UnsupportedScenario
from traces.diff import compare_sides
from traces.schema.verdict import Cause
from traces.text import phrases


@dataclass(slots=True, kw_only=True)
class FirstDifference:
    """Prints the first cause of the first scenario that fails, once: nobody waits for the others.

    Attributes:
        base: results of the base, which has run.
    """

    base: SideResults
    request: GateRequest
    _is_told: bool = field(default=False, init=False)

    def tell(self, name: str, result: RunResult | UnsupportedScenario) -> None:
        """Print the first cause of a scenario whose run is not the expected one, if it fails."""
        base = self.base.recordings.get(name)
        if self._is_told or base is None or isinstance(result, UnsupportedScenario):
            return
        head = read_recording(name, result.text, result.sites)
        aliases = load_aliases(find_target(self.request.session.target))
        causes = compare_sides({name: base}, {name: head}, aliases=aliases)
        failing = [cause for cause in causes if cause.fails(strict=self.request.strict)]
        if failing:
            self._is_told = True
            print_status(f"{name} differs: {_sentence(failing[0])}; the verdict follows")


def _sentence(cause: Cause) -> str:
    """Return kind, subject, change and place of a cause on one line."""
    change = phrases.change_text(cause)
    place = "" if cause.location is None else f"at {phrases.place_text(cause)}"
    return " ".join(filter(None, (cause.kind, phrases.subject_text(cause), change, place)))
