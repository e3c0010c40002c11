"""Results of a campaign in one JSONL file, written as they come: a re-run goes on from there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from typing_extensions import override

from tools.errors import ToolError
from tools.mutation.orders import Fate

SCHEMA = "goldentrace.mutation/1"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: which campaign the results are of."""

    schema: str
    campaign: str


class Journal(Protocol):
    """Where fates go."""

    @property
    def finished(self) -> dict[str, Fate]:
        """Fates known from before, by mutant."""

    def add(self, fate: Fate) -> None:
        """Keep a fate; of two of one mutant the later counts."""


class _Memory:
    def __init__(self) -> None:
        self.finished: dict[str, Fate] = {}

    def add(self, fate: Fate) -> None:
        self.finished[fate.id] = fate


class _File(_Memory):
    def __init__(self, file: Path, *, campaign: str) -> None:
        super().__init__()
        known = _lines(file)
        if known:
            _require_same(file, known[0], campaign=campaign)
            self.finished = {fate.id: fate for fate in _fates(known[1:])}
        file.parent.mkdir(parents=True, exist_ok=True)
        # A driver that was killed may have left half a line: everything is written again.
        head = msgspec.json.encode(Header(schema=SCHEMA, campaign=campaign))
        lines = [head, *(msgspec.json.encode(fate) for fate in self.finished.values())]
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        self._stream = file.open("ab")

    @override
    def add(self, fate: Fate) -> None:
        super().add(fate)
        self._stream.write(msgspec.json.encode(fate) + b"\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


@contextmanager
def open_journal(file: Path | None, *, campaign: str) -> Iterator[Journal]:
    """Yield the journal of a campaign, with what it holds already; in memory without a file.

    Raises:
        ToolError: the file is of another campaign.
    """
    if file is None:
        yield _Memory()
        return
    journal = _File(file, campaign=campaign)
    try:
        yield journal
    finally:
        journal.close()


def _lines(file: Path) -> list[bytes]:
    try:
        return [line for line in file.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        return []


def _require_same(file: Path, line: bytes, *, campaign: str) -> None:
    try:
        header = msgspec.json.decode(line, type=Header)
    except msgspec.DecodeError as error:
        rule = "must be a journal of mutants"
        raise ToolError(str(file), rule, expected=SCHEMA, got=error) from error
    if header.campaign != campaign:
        rule = "must be of the same source, device and scenarios; another file starts anew"
        raise ToolError(str(file), rule, expected=campaign, got=header.campaign)


def _fates(lines: list[bytes]) -> Iterator[Fate]:
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Fate)
        except msgspec.DecodeError:
            # The last line of a driver that was killed.
            return
