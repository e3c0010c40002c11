"""Explained survivors: mutants that no scenario can tell from the source, with the reason."""

import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutantResult

SURVIVORS_FILE = Path("tools") / "mutation" / "survivors.toml"


class ExplainedSurvivor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the file.

    Attributes:
        key: of the mutants, with ``*`` for any text.
        operator: of the mutants; ``*`` for any.
        reason: why they survive.
    """

    key: str
    reason: str
    operator: str = "*"

    def covers(self, result: MutantResult) -> bool:
        """Return whether the row is about a mutant."""
        # Brackets, which keys contain, would be character classes.
        return fnmatchcase(result.operator, self.operator) and fnmatchcase(
            result.key.replace("[", "("), self.key.replace("[", "(")
        )


class ExplainedSurvivors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rows, by target."""

    survivors: dict[str, tuple[ExplainedSurvivor, ...]] = {}

    def reason(self, target: str, result: MutantResult) -> str:
        """Return why a mutant survives; empty when no row covers it."""
        rows = self.survivors.get(target, ())
        return next((row.reason for row in rows if row.covers(result)), "")

    def stale(self, target: str, results: Iterable[MutantResult]) -> list[str]:
        """Return the keys of rows that cover mutants of which none survives."""
        results = list(results)
        found = []
        for row in self.survivors.get(target, ()):
            verdicts = {result.verdict for result in results if row.covers(result)}
            if verdicts and not verdicts & {"survived", "unreached"}:
                found.append(row.key)
        return found


def read_explained_survivors(root: Path) -> ExplainedSurvivors:
    """Read the file of a checkout; an absent one has no rows.

    Raises:
        ToolError: it is malformed.
    """
    try:
        rows = tomllib.loads((root / SURVIVORS_FILE).read_text(encoding="utf-8"))
        return msgspec.convert(rows, type=ExplainedSurvivors)
    except FileNotFoundError:
        return ExplainedSurvivors()
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        rule, expected = "must explain survivors", "[[survivors.TARGET]] with key and reason"
        raise ToolError(str(SURVIVORS_FILE), rule, expected=expected, got=error) from error
