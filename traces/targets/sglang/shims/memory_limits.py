"""Memory limits of the machine that runs the scenarios: a release finds none.

Later releases read from the control groups of their container how much memory is left, and refuse a
host pool beyond that. What is left depends on the machine and on everything else that runs on it.

Source of what is read: sglang 0.5.23 ``mem_cache/host_memory.py``.
"""

import errno
import os
from pathlib import Path
from typing import Any

from traces.targets.sglang.shims.module_binding import AttributePatches

_GROUPS = Path("/proc/self/cgroup")


def hide_memory_limits(changes: AttributePatches) -> None:
    """Let the process belong to no control group, as on a system without them."""
    read = Path.read_text

    def read_text(path: Path, *given: Any, **named: Any) -> str:  # noqa: ANN401 - as of a path
        if path == _GROUPS:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return read(path, *given, **named)

    changes.set(Path, "read_text", read_text)
