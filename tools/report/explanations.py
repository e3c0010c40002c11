"""Explanations of the kinds of causes: their meaning, and the changes that usually make them."""

import tomllib
from functools import cache
from pathlib import Path

import msgspec

from traces.schema.verdict import Kind

_FILE = Path(__file__).with_name("explanations.toml")


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Explanation of one kind.

    Attributes:
        title: a short noun phrase.
        meaning: the fact that was found.
        usual: changes that usually make it.
        look: where to look first.
    """

    title: str
    meaning: str
    usual: str
    look: str

    def as_text(self, kind: Kind) -> str:
        """Return the explanation as lines for a terminal."""
        return (
            f"{kind}: {self.title}\n\n{self.meaning}\n\n"
            f"Usual changes: {self.usual}\nLook at: {self.look}\n"
        )


@cache
def explanations() -> dict[Kind, Explanation]:
    """Return the explanation of every kind, in the order of ``Kind``.

    Raises:
        msgspec.ValidationError: the file lacks a field, or has one too many.
        KeyError: the file lacks a kind.
    """
    table = msgspec.convert(
        tomllib.loads(_FILE.read_text(encoding="utf-8")), dict[Kind, Explanation]
    )
    return {kind: table[kind] for kind in Kind}
