"""The committed golden files of a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tools.errors import ToolError
from traces.errors import TraceFormatError
from traces.pytest.golden_files import golden_path, orphans
from traces.schema.canonical import is_canonical, parse
from traces.schema.model import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One committed trace.

    Attributes:
        content: the bytes of the file.
        trace: the trace in them.
    """

    path: Path
    content: bytes
    trace: Trace

    @property
    def is_canonical(self) -> bool:
        """True if the bytes are the canonical form of the trace."""
        return is_canonical(self.content, self.trace)


def golden_folder(root: Path, *, target: str) -> Path:
    """Return the directory that holds a target's goldens."""
    return root / "traces" / "golden" / target


def golden_names(folder: Path) -> frozenset[str]:
    """Return the names of all goldens in a folder; sidecars are left out."""
    return frozenset(orphans(folder, ()))


def read_golden(folder: Path, name: str) -> Golden:
    """Read one golden.

    Raises:
        TraceFormatError: it cannot be read, is cut short, holds a merge conflict or is no trace.
        ToolError: it is the golden of another scenario.
    """
    path = golden_path(folder, name)
    try:
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceFormatError(
            str(path), "must be readable", expected="a UTF-8 file", got=error
        ) from error
    trace = parse(text, subject=str(path))
    if trace.scenario.name != name:
        rule, got = "must hold the scenario it is named after", trace.scenario.name
        raise ToolError(str(path), rule, expected=name, got=got)
    return Golden(path=path, content=content, trace=trace)


def render_sidecar(schema: str, key: str, entries: Mapping[str, object]) -> str:
    """Return the text of a sidecar, one entry on a line, so that branches merge."""

    def encode(value: object) -> str:
        return msgspec.json.encode(value).decode()

    lines = ",\n".join(f"{encode(name)}: {encode(of)}" for name, of in sorted(entries.items()))
    return f'{{\n"schema": {encode(schema)},\n{encode(key)}: {{\n{lines}\n}}\n}}\n'
