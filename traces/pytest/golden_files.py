"""Names and inventory of golden files, and the refusal to write them in CI."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from traces.errors import GoldenNameError, GoldenWriteError
from traces.schema.canonical import SITES_SUFFIX, SUFFIX
from traces.schema.model import SCHEMA

PROVENANCE = "PROVENANCE.json"
PARITY = "PARITY.json"

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,120}")
_SCHEMA = re.compile(rb'"schema":\s*"(goldentrace\.trace/(\d+))"')
_FALSE_VALUES = frozenset(("", "0", "false"))


def check_name(name: str) -> str:
    """Return ``name``; a golden's name is its file's name, so that no two can share a file.

    Raises:
        GoldenNameError: it holds anything but ``A-Za-z0-9._-``, starts with a dot, is empty or
            longer than 120, or stands for a sidecar.
    """
    if _NAME.fullmatch(name) is None:
        rule = "name must be a file name"
        raise GoldenNameError("golden", rule, expected="[A-Za-z0-9._-]{1,120}", got=repr(name))
    if is_sidecar(name + SUFFIX):
        rule = "name must not be a sidecar's"
        raise GoldenNameError("golden", rule, expected="another name", got=repr(name))
    return name


def golden_path(directory: Path, name: str) -> Path:
    """Return the path of the golden of a name; raise GoldenNameError as :func:`check_name` does."""
    return directory / (check_name(name) + SUFFIX)


def orphans(directory: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return the goldens in a directory that belong to none of ``names``, sorted.

    Sidecars (sites, provenance, parity) are not goldens. A directory that does not exist has none.
    """
    files = (path.name for path in directory.glob(f"*{SUFFIX}"))
    found = {file.removesuffix(SUFFIX) for file in files if not is_sidecar(file)}
    return tuple(sorted(found - set(names)))


def is_sidecar(file: str) -> bool:
    """Return whether a file of this name lies beside goldens and is none itself."""
    return file in (PROVENANCE, PARITY) or file.endswith(SITES_SUFFIX)


def newer_schema(path: Path) -> str:
    """Return the schema of a golden that a newer version wrote; empty for any other file."""
    if not path.is_file():
        return ""
    found = _SCHEMA.search(path.read_bytes()[:200])
    current = int(SCHEMA.rpartition("/")[2])
    if found is None or int(found.group(2)) <= current:
        return ""
    return found.group(1).decode()


def refuse_writing_in_ci(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to write goldens in CI, where they are not reviewed.

    Raises:
        GoldenWriteError: the variable ``CI`` is set to anything but ``0`` or ``false``.
    """
    value = environment.get("CI", "")
    if value.strip().lower() not in _FALSE_VALUES:
        rule = "must not be written in CI"
        got = f"CI={value}; write it on a developer's machine and commit it"
        raise GoldenWriteError("golden", rule, expected="CI not set", got=got)
