"""The parity certificate, a sidecar that names the GPUs whose traces equal the goldens.

It holds one entry for each model of GPU, on a line of its own, so that branches merge.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tools.goldens.files import render_sidecar
from traces.pytest.golden_files import PARITY

SCHEMA = "goldentrace.parity/1"

_ADVICE = "run goldentrace parity --device cuda --write on"


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
    return render_sidecar(SCHEMA, "devices", devices)


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
