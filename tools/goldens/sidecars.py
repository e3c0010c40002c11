"""The sidecars of the goldens, which are never compared: provenance and parity certificate.

The provenance has a line for each golden, the certificate one for each model of GPU whose traces
equal the goldens; so branches that change different ones merge.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from tools.git import commit_of, is_repository
from tools.goldens.golden_set import golden_names
from traces.pytest.golden_files import PARITY, PROVENANCE

PROVENANCE_SCHEMA = "goldentrace.provenance/1"
PARITY_SCHEMA = "goldentrace.parity/1"

_ADVICE = "run goldentrace parity --device cuda --write on"


class _ProvenanceFile(msgspec.Struct):
    goldens: dict[str, dict[str, str]]


def stamp_provenance(
    worker_info: Mapping[str, str], *, root: Path, commit: str | None
) -> dict[str, str]:
    """Return a worker's device and versions together with the commit and the date.

    A commit that is None is read from git; outside a checkout it is empty.
    """
    if commit is None and is_repository(root):
        commit = commit_of(root, "HEAD")
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {**worker_info, "commit": commit or "", "date": date}


def recorded_devices(folder: Path) -> dict[str, str]:
    """Return the kind of device each golden of a folder was recorded on, where that is known."""
    return {name: of["device"] for name, of in _read_entries(folder).items() if "device" in of}


def render_provenance(
    folder: Path, *, written: Mapping[str, Mapping[str, str]], removed: Iterable[str]
) -> str:
    """Return the new text of a folder's sidecar.

    Entries of removed goldens are dropped. A sidecar that cannot be read is replaced.
    """
    present = golden_names(folder) - frozenset(removed)
    kept = {name: of for name, of in _read_entries(folder).items() if name in present}
    new = {name: dict(of) for name, of in written.items()}
    return _render_sidecar(PROVENANCE_SCHEMA, "goldens", {**kept, **new})


def _read_entries(folder: Path) -> dict[str, dict[str, str]]:
    try:
        return msgspec.json.decode((folder / PROVENANCE).read_bytes(), type=_ProvenanceFile).goldens
    except (OSError, msgspec.DecodeError):
        return {}


class CertificateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Parity of one model of GPU.

    Attributes:
        scenarios: number that was run: all of the target.
        differences: number of traces that differ from their golden; only 0 is certified.
        goldens_sha256: see :func:`goldens_sha256`.
        dirty: whether files differed from the commit; None when git did not name the commit.
        date: in UTC, to the second.
    """

    scenarios: int
    differences: Literal[0]
    goldens_sha256: str
    device_name: str
    driver: str
    cuda: str
    torch: str
    python: str
    commit: str
    dirty: bool | None
    date: str


class _CertificateFile(msgspec.Struct):
    schema: Literal["goldentrace.parity/1"]
    devices: dict[str, CertificateEntry]


def goldens_sha256(contents: Mapping[str, bytes]) -> str:
    """Return the digest of a set of goldens, the bytes of each by name."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def read_certificate(folder: Path) -> dict[str, CertificateEntry]:
    """Return the entries of a folder's certificate by device name; none when it is unreadable."""
    try:
        return msgspec.json.decode((folder / PARITY).read_bytes(), type=_CertificateFile).devices
    except (OSError, msgspec.DecodeError):
        return {}


def add_certificate_entry(folder: Path, entry: CertificateEntry) -> str:
    """Return the new text of a folder's certificate; entries of other devices are kept."""
    devices = {**read_certificate(folder), entry.device_name: entry}
    return _render_sidecar(PARITY_SCHEMA, "devices", devices)


def certificate_problem(folder: Path, *, contents: Mapping[str, bytes]) -> str:
    """Return the problem of a folder's certificate in one line; empty without one.

    ``contents`` holds the bytes of every golden in the folder, by name.
    """
    entries = read_certificate(folder)
    if not entries:
        return f"parity: certificate is missing; {_ADVICE} a GPU"
    present = goldens_sha256(contents)
    stale = sorted(name for name, entry in entries.items() if entry.goldens_sha256 != present)
    if not stale:
        return ""
    if len(stale) == len(entries):
        return f"parity: certificate is older than the goldens; {_ADVICE} a GPU"
    return f"parity: certificate of {', '.join(stale)} is older than the goldens; {_ADVICE} one"


def _render_sidecar(schema: str, key: str, entries: Mapping[str, object]) -> str:
    """Return the text of a sidecar, one entry on a line, so that branches merge."""

    def encode(value: object) -> str:
        return msgspec.json.encode(value).decode()

    lines = ",\n".join(f"{encode(name)}: {encode(of)}" for name, of in sorted(entries.items()))
    return f'{{\n"schema": {encode(schema)},\n{encode(key)}: {{\n{lines}\n}}\n}}\n'
