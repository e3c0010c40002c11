"""Provenance of each golden: a sidecar beside the goldens, never compared.

One line a golden, so that branches which write different goldens merge.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tools.git import commit_of, is_repository
from tools.goldens.files import golden_names, render_sidecar
from traces.pytest.golden_files import PROVENANCE

SCHEMA = "goldentrace.provenance/1"


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
    return render_sidecar(SCHEMA, "goldens", {**kept, **new})


def _read_entries(folder: Path) -> dict[str, dict[str, str]]:
    try:
        return msgspec.json.decode((folder / PROVENANCE).read_bytes(), type=_ProvenanceFile).goldens
    except (OSError, msgspec.DecodeError):
        return {}
