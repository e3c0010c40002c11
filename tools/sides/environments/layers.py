"""Layers: directories of the cache that pip filled once and nothing changes afterwards.

A layer is filled in a temporary directory, its manifest is written last, and a rename puts it in
place. A directory that does not match its manifest is built again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from tools.console import print_status
from tools.errors import ToolError, one_line

MANIFEST = "goldentrace-manifest.json"

# Written by any process that imports from the layer: no part of the installation.
_BYTECODE = "__pycache__"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLayer:
    """One directory of the cache, pip's requirements for it, and its name in messages."""

    path: Path
    requirements: tuple[str, ...]
    subject: str


def ensure_layer(layer: PackageLayer) -> Path:
    """Build a layer unless it is complete; return its directory.

    Other processes that need the same layer wait for it.

    Raises:
        ToolError: pip could not install it, or the cache cannot be written.
    """
    if is_complete(layer.path):
        return layer.path
    try:
        with _lock_layer(layer):
            if not is_complete(layer.path):
                _build_layer(layer)
    except OSError as error:
        rule, expected = "the cache must be writable", f"a writable directory {layer.path.parent}"
        raise ToolError(layer.subject, rule, expected=expected, got=error) from error
    return layer.path


def is_complete(path: Path) -> bool:
    """Return whether every installed file is present with its size."""
    try:
        sizes = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return bool(sizes) and all(
            (path / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


def _build_layer(layer: PackageLayer) -> None:
    if layer.path.exists():
        print_status(f"{layer.subject}: damaged in the cache, built anew")
    else:
        print_status(f"{layer.subject}: not in the cache yet, downloaded once into {layer.path}")
    layer.path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in layer.path.parent.glob(f".{layer.path.name}-*"):  # of builds that were killed
        shutil.rmtree(leftover, ignore_errors=True)
    building = _temporary_beside(layer.path)
    try:
        install(layer.requirements, into=building, subject=layer.subject, cache=layer.path.parent)
        (building / MANIFEST).write_text(json.dumps(_sizes(building)), encoding="utf-8")
        _replace(layer.path, by=building)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace(path: Path, *, by: Path) -> None:
    """Put a directory in the place of another, which may still be read and is moved away first."""
    if path.exists():
        replaced = _temporary_beside(path)
        path.rename(replaced / "old")
        by.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        by.rename(path)
    path.chmod(0o755)  # mkdtemp made it for its owner alone


def _temporary_beside(path: Path) -> Path:
    return Path(mkdtemp(prefix=f".{path.name}-", dir=path.parent))


def _sizes(path: Path) -> dict[str, int]:
    return {
        file.relative_to(path).as_posix(): file.stat().st_size
        for file in sorted(path.rglob("*"))
        if file.is_file() and _BYTECODE not in file.parts
    }


def _lock_layer(layer: PackageLayer) -> AbstractContextManager[object]:
    layer.path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(layer.path.parent / f"{layer.path.name}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print_status(f"{layer.subject}: waiting for another process that builds it")
        return lock.acquire()
