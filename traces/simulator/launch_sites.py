"""Source lines from which operations were launched."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

_ROOT = Path(__file__).parent.parent.parent
# Frames of the device interface and of the simulator are not where an operation was launched.
_DEVICE_FOLDERS = (f"{_ROOT / 'assembler' / 'device'}{os.sep}", f"{Path(__file__).parent}{os.sep}")
_DEPTH = 8


@dataclass(frozen=True, slots=True)
class LaunchSite:
    """The source lines that led to a call into the device, innermost first.

    Attributes:
        frames: file and line of each, without the device's own.
    """

    frames: tuple[tuple[str, int], ...]

    @property
    def line(self) -> str:
        """The innermost line, ``assembler/transfer/engine.py:80``."""
        return _frame_text(self.frames[0])

    @property
    def path(self) -> str:
        """All lines, innermost first."""
        return " < ".join(map(_frame_text, self.frames))


def find_launch_site() -> LaunchSite:
    """Return the source lines from which the device was called."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the interpreter's own way
    while frame is not None and frame.f_code.co_filename.startswith(_DEVICE_FOLDERS):
        frame = frame.f_back
    frames: list[tuple[str, int]] = []
    while frame is not None and len(frames) < _DEPTH:
        frames.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return LaunchSite(tuple(frames))


def _frame_text(frame: tuple[str, int]) -> str:
    file, line = Path(frame[0]), frame[1]
    name = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file
    return f"{name.as_posix()}:{line}"
