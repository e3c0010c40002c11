"""Calls of pip in a subprocess, with the user's own configuration, index and proxies."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.errors import ToolError, one_line

# --user and --target exclude each other; a configured target would win over ours.
_PIP_VARIABLES = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

_NO_CONNECTION = re.compile(
    r"connection broken by|Failed to establish a new connection|NameResolutionError|ConnectTimeout"
)

# pip lists every version; the newest is enough for the message.
_VERSIONS = re.compile(r"\(from versions: [^)]*, ([^,)]+)\)")


def install(requirements: Sequence[str], *, into: Path, subject: str, cache: Path) -> None:
    """Install exactly the named wheels, without their dependencies, into an empty directory.

    ``subject`` and ``cache``, the directory of the result, are for the message.

    Raises:
        ToolError: pip is missing or failed; the message holds its last line.
    """
    command = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--upgrade", "--target", str(into), *requirements]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env={**os.environ, **_PIP_VARIABLES},
    )
    if done.returncode != 0:
        expected = f"{' '.join(requirements)} from pip's index (once; kept in {cache})"
        raise ToolError(subject, "must be installable", expected=expected, got=_failure_text(done))


def _failure_text(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    words = one_line(" ".join(errors or lines[-1:] or [f"exit code {done.returncode}"]))
    words = _VERSIONS.sub(r"(newest: \1)", words)
    return f"no connection to the index ({words})" if _NO_CONNECTION.search(done.stderr) else words
