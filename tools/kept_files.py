"""Files of a cache: written in one step, and taken for none when they are not what was written.

The module imports the standard library alone: workers use it before they import their target.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

_DIGEST_BYTES = 32


def read_kept(file: Path) -> bytes | None:
    """Return the content of a file; None where there is none, or it is cut short or damaged."""
    try:
        found = file.read_bytes()
    except OSError:
        return None
    digest, content = found[:_DIGEST_BYTES], found[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def write_kept(file: Path, content: bytes) -> None:
    """Write a file behind a digest of its content; where that is impossible, nothing is kept."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved: another process may read or write the same file.
        descriptor, scratch = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content)
            Path(scratch).replace(file)
        except OSError:
            Path(scratch).unlink(missing_ok=True)
            raise
