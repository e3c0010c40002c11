"""Explained survivors: mutants that no scenario can tell from the source, with the reason."""

import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

import msgspec

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutantResult

SURVIVORS_FILE = Path("tools") / "mutation" / "survivors.toml"


class ExplainedSurvivors(msgspec.Struct, frozen=True, kw_only=True):
    """Reasons by target, operator and key of the mutants, with ``*`` for any text in both.

    Attributes:
        survivors: of mutants that some input would tell from the source, which no scenario has.
        same_program: of mutants that no input tells from the source.
    """

    survivors: dict[str, dict[str, dict[str, str]]] = {}
    same_program: dict[str, dict[str, dict[str, str]]] = {}

    def reason(self, target: str, result: MutantResult) -> str:
        """Return why a mutant survives; empty when no row covers it."""
        rows = {**_rows(self.survivors, target), **_rows(self.same_program, target)}
        return next((rows[row] for row in rows if _covers(row, result)), "")

    def is_same_program(self, target: str, result: MutantResult) -> bool:
        """Return whether a row says that no input tells a mutant from the source."""
        return any(_covers(row, result) for row in _rows(self.same_program, target))

    def stale(self, target: str, results: Iterable[MutantResult]) -> list[str]:
        """Return the keys of rows that do not hold.

        A row of ``survivors`` does not when it covers mutants of which none survives, a row of
        ``same_program`` when it covers one that is killed.
        """
        results = list(results)
        found = []
        for row in _rows(self.survivors, target):
            verdicts = _verdicts(row, results)
            if verdicts and not verdicts & {"survived", "unreached"}:
                found.append(row[1])
        same = _rows(self.same_program, target)
        return found + [row[1] for row in same if "killed" in _verdicts(row, results)]


def _rows(groups: dict[str, dict[str, dict[str, str]]], target: str) -> dict[tuple[str, str], str]:
    operators = groups.get(target, {}).items()
    return {(operator, key): rows[key] for operator, rows in operators for key in rows}


def _verdicts(row: tuple[str, str], results: Iterable[MutantResult]) -> set[str]:
    return {result.verdict for result in results if _covers(row, result)}


def _covers(row: tuple[str, str], result: MutantResult) -> bool:
    operator, key = row
    # Brackets, which keys contain, would be character classes.
    return fnmatchcase(result.operator, operator) and fnmatchcase(
        result.key.replace("[", "("), key.replace("[", "(")
    )


class _ReleaseReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reason that holds for one release only."""

    reason: str
    release: str


_FileRows: TypeAlias = dict[str, dict[str, dict[str, str | _ReleaseReason]]]


class _SurvivorsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows of the file, those of all releases."""

    survivors: _FileRows = {}
    same_program: _FileRows = {}


def _rows_of_release(
    groups: _FileRows, release: str | None
) -> dict[str, dict[str, dict[str, str]]]:
    """Return the rows that hold for a release, with their reasons."""

    def reasons(rows: dict[str, str | _ReleaseReason]) -> dict[str, str]:
        return {
            key: row if isinstance(row, str) else row.reason
            for key, row in rows.items()
            if isinstance(row, str) or row.release == release
        }

    return {
        target: {operator: reasons(rows) for operator, rows in operators.items()}
        for target, operators in groups.items()
    }


def read_explained_survivors(root: Path, *, release: str | None) -> ExplainedSurvivors:
    """Read the file of a checkout; an absent one has no rows.

    ``release`` is that of the mutated package, None where it has none: rows of another one are left
    out.

    Raises:
        ToolError: it is malformed.
    """
    try:
        rows = tomllib.loads((root / SURVIVORS_FILE).read_text(encoding="utf-8"))
        found = msgspec.convert(rows, type=_SurvivorsFile)
        return ExplainedSurvivors(
            survivors=_rows_of_release(found.survivors, release),
            same_program=_rows_of_release(found.same_program, release),
        )
    except FileNotFoundError:
        return ExplainedSurvivors()
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        rule, expected = "must explain survivors", "[survivors.TARGET.OPERATOR] with key = reason"
        raise ToolError(str(SURVIVORS_FILE), rule, expected=expected, got=error) from error
