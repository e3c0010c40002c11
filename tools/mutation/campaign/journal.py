"""Results of a campaign in one JSONL file, written as they come: a second run continues there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutantResult

SCHEMA = "goldentrace.mutation/1"


class JournalHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: which campaign the results are of."""

    schema: str
    campaign: str


@dataclass(slots=True)
class Journal:
    """Results by mutant; of two of one mutant the later counts.

    Attributes:
        stream: open file that every result is appended to; None to keep results in memory only.
    """

    stream: BinaryIO | None
    finished: dict[str, MutantResult] = field(default_factory=dict)

    def add(self, result: MutantResult) -> None:
        """Keep a result."""
        self.finished[result.id] = result
        if self.stream is not None:
            self.stream.write(msgspec.json.encode(result) + b"\n")
            self.stream.flush()


@contextmanager
def open_journal(file: Path | None, *, campaign: str) -> Iterator[Journal]:
    """Yield the journal of a campaign with its earlier results; in memory without a file.

    Raises:
        ToolError: the file is of another campaign.
    """
    if file is None:
        yield Journal(None)
        return
    text = file.read_bytes() if file.exists() else b""
    header, *lines = [line for line in text.split(b"\n") if line] or [b""]
    if header:
        _require_same(file, header, campaign=campaign)
    known = {one.id: one for one in _decode_results(lines)}
    file.parent.mkdir(parents=True, exist_ok=True)
    # A driver that was killed may have left half a line: everything is written again.
    with file.open("wb") as stream:
        head = JournalHeader(schema=SCHEMA, campaign=campaign)
        stream.write(msgspec.json.encode(head) + b"\n")
        journal = Journal(stream)
        for result in known.values():
            journal.add(result)
        yield journal


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
