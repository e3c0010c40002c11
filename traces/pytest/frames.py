"""Frames of a traceback: those of the recorder are left out."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from traces import recording
from traces.recording.instrument import TRAMPOLINE_FILE

_RECORDING = Path(recording.__file__).parent
_COPIES = str(_RECORDING / "torch_copies.py")


def leave_out_recorder(error: BaseException) -> None:
    """Take the recorder's frames out of the traceback of an error.

    Frames of torch beside those that observe its copies are there for the recorder only, too.
    """
    entries = list(_entries(error.__traceback__))
    files = [entry.tb_frame.f_code.co_filename for entry in entries]
    hidden = _around_copies(files)
    kept = [
        entry
        for position, (entry, file) in enumerate(zip(entries, files, strict=True))
        if not (_is_own(file) or position in hidden)
    ]
    for entry, following in zip(kept, [*kept[1:], None], strict=True):
        entry.tb_next = following


def _entries(entry: TracebackType | None) -> Iterator[TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _is_own(file: str) -> bool:
    return file == TRAMPOLINE_FILE or Path(file).is_relative_to(_RECORDING)


def _around_copies(files: list[str]) -> set[int]:
    """Return the positions of torch's frames that lie beside frames which observe copies."""
    torch = sys.modules.get("torch")
    if torch is None or torch.__file__ is None:
        return set()
    root = Path(torch.__file__).parent
    found = set()
    for position, file in enumerate(files):
        for step in (-1, 1) if file == _COPIES else ():
            at = position + step
            while 0 <= at < len(files) and Path(files[at]).is_relative_to(root):
                found.add(at)
                at += step
    return found
