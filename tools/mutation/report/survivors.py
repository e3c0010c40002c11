"""Survivors that are known, with the reason why no scenario can tell them from the source."""

import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutantResult

SURVIVORS_FILE = Path("docs") / "mutation_survivors.toml"


class ExplainedSurvivor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row.

    Attributes:
        key: of the mutants, with ``*`` for any text.
        operator: that made them; ``*`` for any.
        reason: why they survive.
    """

    key: str
    reason: str
    operator: str = "*"

    def covers(self, result: MutantResult) -> bool:
        """Tell whether a mutant is meant."""
        return fnmatchcase(result.operator, self.operator) and fnmatchcase(
            result.key.replace("[", "("), self.key.replace("[", "(")
        )


class ExplainedSurvivors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rows, by target."""

    survivors: dict[str, tuple[ExplainedSurvivor, ...]]

    def reason(self, target: str, result: MutantResult) -> str:
        """Return why a mutant survives; empty when nothing is known."""
        rows = self.survivors.get(target, ())
        return next((entry.reason for entry in rows if entry.covers(result)), "")

    def stale(self, target: str, results: Iterable[MutantResult]) -> list[str]:
        """Return the rows all of whose mutants are killed, where there are any."""
        judged = list(results)
        found = []
        for entry in self.survivors.get(target, ()):
            verdicts = {fate.verdict for fate in judged if entry.covers(fate)}
            if verdicts and not verdicts & {"survived", "unreached"}:
                found.append(entry.key)
        return found


def read_explained_survivors(root: Path) -> ExplainedSurvivors:
    """Read the ledger of a checkout; an absent one is empty.

    Raises:
        ToolError: it is no ledger.
    """
    file = root / SURVIVORS_FILE
    try:
        rows: Mapping[str, object] = tomllib.loads(file.read_text(encoding="utf-8"))
        return msgspec.convert(rows, type=ExplainedSurvivors)
    except FileNotFoundError:
        return ExplainedSurvivors(survivors={})
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        rule, expected = "must be a ledger", "[[survivors.TARGET]] with key and reason"
        raise ToolError(str(SURVIVORS_FILE), rule, expected=expected, got=error) from error
