"""The committed goldens of a target: where they lie, what they hold, which are surplus."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

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
        trace: what they say.
    """

    path: Path
    content: bytes
    trace: Trace

    @property
    def is_canonical(self) -> bool:
        """Whether the bytes are the canonical form of the trace."""
        return is_canonical(self.content, self.trace)


def golden_folder(root: Path, *, target: str) -> Path:
    """Return the directory that holds a target's goldens."""
    return root / "traces" / "golden" / target


def golden_names(folder: Path) -> frozenset[str]:
    """Return the names of all goldens in a folder; sidecars are none."""
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


def select_scenarios(names: Sequence[str], *, known: Iterable[str]) -> tuple[str, ...]:
    """Return the scenarios to play, in registry order; all of them when none is named.

    Raises:
        ToolError: a name is unknown; the nearest known one is suggested.
    """
    everything = tuple(known)
    for name in names:
        if name not in everything:
            near = get_close_matches(name, everything, n=1, cutoff=0.0)
            expected = f"{near[0]} or another of `goldentrace list`" if near else "none"
            raise ToolError("scenario", "must be known", expected=expected, got=name)
    wanted = frozenset(names)
    return tuple(name for name in everything if not names or name in wanted)
