"""Results of a campaign in one JSONL file, written as they come: a re-run goes on from there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from typing_extensions import override

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutantResult

SCHEMA = "goldentrace.mutation/1"


class JournalHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: which campaign the results are of."""

    schema: str
    campaign: str


class Journal(Protocol):
    """Where fates go."""

    @property
    def finished(self) -> dict[str, MutantResult]:
        """Fates known from before, by mutant."""

    def add(self, result: MutantResult) -> None:
        """Keep a fate; of two of one mutant the later counts."""


class _MemoryJournal:
    def __init__(self) -> None:
        self.finished: dict[str, MutantResult] = {}

    def add(self, result: MutantResult) -> None:
        self.finished[result.id] = result


class _FileJournal(_MemoryJournal):
    def __init__(self, file: Path, *, campaign: str) -> None:
        super().__init__()
        known = _read_lines(file)
        if known:
            _require_same(file, known[0], campaign=campaign)
            self.finished = {fate.id: fate for fate in _decode_results(known[1:])}
        file.parent.mkdir(parents=True, exist_ok=True)
        # A driver that was killed may have left half a line: everything is written again.
        head = msgspec.json.encode(JournalHeader(schema=SCHEMA, campaign=campaign))
        lines = [head, *(msgspec.json.encode(fate) for fate in self.finished.values())]
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        self._stream = file.open("ab")

    @override
    def add(self, result: MutantResult) -> None:
        super().add(result)
        self._stream.write(msgspec.json.encode(result) + b"\n")
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
        yield _MemoryJournal()
        return
    journal = _FileJournal(file, campaign=campaign)
    try:
        yield journal
    finally:
        journal.close()


def _read_lines(file: Path) -> list[bytes]:
    try:
        return [line for line in file.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        return []


def _require_same(file: Path, line: bytes, *, campaign: str) -> None:
    try:
        header = msgspec.json.decode(line, type=JournalHeader)
    except msgspec.DecodeError as error:
        rule = "must be a journal of mutants"
        raise ToolError(str(file), rule, expected=SCHEMA, got=error) from error
    if header.campaign != campaign:
        rule = "must be of the same source, device and scenarios; another file starts anew"
        raise ToolError(str(file), rule, expected=campaign, got=header.campaign)


def _decode_results(lines: list[bytes]) -> Iterator[MutantResult]:
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=MutantResult)
        except msgspec.DecodeError:
            # The last line of a driver that was killed.
            return
