"""Survivors that are known, with the reason why no scenario can tell them from the source."""

import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from tools.errors import ToolError
from tools.mutation.orders import Fate

LEDGER = Path("docs") / "mutation_survivors.toml"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row.

    Attributes:
        key: of the mutants, with ``*`` for any text.
        operator: that made them; ``*`` for any.
        reason: why they survive.
    """

    key: str
    reason: str
    operator: str = "*"

    def covers(self, fate: Fate) -> bool:
        """Tell whether a mutant is meant."""
        return fnmatchcase(fate.operator, self.operator) and fnmatchcase(
            fate.key.replace("[", "("), self.key.replace("[", "(")
        )


class Ledger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rows, by target."""

    survivors: dict[str, tuple[Entry, ...]]

    def reason(self, target: str, fate: Fate) -> str:
        """Return why a mutant survives; empty when nothing is known."""
        rows = self.survivors.get(target, ())
        return next((entry.reason for entry in rows if entry.covers(fate)), "")

    def stale(self, target: str, fates: Iterable[Fate]) -> list[str]:
        """Return the rows all of whose mutants are killed, where there are any."""
        judged = list(fates)
        found = []
        for entry in self.survivors.get(target, ()):
            verdicts = {fate.verdict for fate in judged if entry.covers(fate)}
            if verdicts and not verdicts & {"survived", "unreached"}:
                found.append(entry.key)
        return found


def read_ledger(root: Path) -> Ledger:
    """Read the ledger of a checkout; an absent one is empty.

    Raises:
        ToolError: it is no ledger.
    """
    file = root / LEDGER
    try:
        rows: Mapping[str, object] = tomllib.loads(file.read_text(encoding="utf-8"))
        return msgspec.convert(rows, type=Ledger)
    except FileNotFoundError:
        return Ledger(survivors={})
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        rule, expected = "must be a ledger", "[[survivors.TARGET]] with key and reason"
        raise ToolError(str(LEDGER), rule, expected=expected, got=error) from error
