"""Line coverage of some files while a block runs, in every thread."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from traces.recording.frame_hooks import trace_frames


@contextmanager
def record_executed_lines(root: Path, files: Iterable[str]) -> Iterator[dict[str, set[int]]]:
    """Yield the lines executed so far, by path under the root."""
    reached: dict[str, set[int]] = {file: set() for file in files}
    by_path = {str(root / file): lines for file, lines in reached.items()}

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401
        lines = by_path.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)
        return trace

    with trace_frames(trace):
        yield reached
