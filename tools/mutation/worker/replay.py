"""One side of a mutant, played again for a second look."""

from collections.abc import Callable, Mapping
from pathlib import Path

from traces.divergence import CallLog, LineLog


class MutantReplay:
    """One side of a mutant played again, in copies; what was logged is kept.

    Attributes:
        known: logs, by function and number of the call whose lines they hold; None for all calls.
    """

    def __init__(
        self,
        play: Callable[[str, tuple[str, int] | None], CallLog | LineLog],
        *,
        root: Path,
        texts: Mapping[str, str],
    ) -> None:
        self.logs: dict[tuple[str, int] | None, CallLog | LineLog] = {}
        self._play = play
        self._root = root
        self._texts = texts

    def calls(self, scenario: str) -> CallLog:
        """Play a scenario and log its calls."""
        found = self._log(scenario, None)
        assert isinstance(found, CallLog)
        return found

    def lines(self, scenario: str, *, function: str, number: int) -> LineLog:
        """Play a scenario and log the lines of one call."""
        found = self._log(scenario, (function, number))
        assert isinstance(found, LineLog)
        return found

    def source(self, file: str) -> str | None:
        """Return the text of a file, mutated or as it is."""
        if file in self._texts:
            return self._texts[file]
        path = self._root / file
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def _log(self, scenario: str, call: tuple[str, int] | None) -> CallLog | LineLog:
        if call not in self.logs:
            self.logs[call] = self._play(scenario, call)
        return self.logs[call]
