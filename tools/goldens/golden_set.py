"""The committed goldens of a target, one by one and as a set, and builders without a scenario."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from traces.errors import TraceError, TraceFormatError
from traces.pytest.golden_files import golden_path, orphans
from traces.schema.canonical import is_canonical, parse, render
from traces.schema.model import Location, Recording, Trace
from traces.schema.verdict import Cause, Kind, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One committed trace, with the bytes of its file."""

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


# Ranked after every difference of a trace, whose layers are 0 to 5.
_FORMAT_LAYER = 6
_FINDING_LAYER = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSet:
    """The goldens that could be read, by scenario name, and one problem for each of the others."""

    goldens: Mapping[str, Golden]
    problems: Mapping[str, str]

    @property
    def recordings(self) -> dict[str, Recording]:
        """The goldens as recordings, which have no sites."""
        return {
            name: Recording(trace=golden.trace, sites=None) for name, golden in self.goldens.items()
        }


def read_golden_set(folder: Path, *, names: Iterable[str]) -> GoldenSet:
    """Read those of the named goldens that exist."""
    goldens: dict[str, Golden] = {}
    problems: dict[str, str] = {}
    present = golden_names(folder)
    for name in names:
        if name not in present:
            continue
        try:
            goldens[name] = read_golden(folder, name)
        except (TraceError, ToolError) as error:
            problems[name] = str(error)
    return GoldenSet(goldens=goldens, problems=problems)


def format_causes(golden_set: GoldenSet, *, root: Path) -> tuple[Cause, ...]:
    """Return one cause for all goldens whose bytes are not the canonical form of their trace."""
    wrong = [golden for golden in golden_set.goldens.values() if not golden.is_canonical]
    if not wrong:
        return ()
    first = wrong[0]
    line, before, after = _first_non_canonical_line(first)
    place = first.path.relative_to(root).as_posix()
    return (
        Cause(
            kind=Kind.FORMAT_CHANGED,
            level=Level.FORMAT,
            before=before,
            after=after,
            location=Location(file=place, line=line),
            scenarios=tuple(sorted(golden.trace.scenario.name for golden in wrong)),
            where=place,
            message="The bytes of a golden are not the canonical form of what it says.",
            rank=(_FORMAT_LAYER, 0),
        ),
    )


def count_coverage(builders: Sequence[str], *, registry: Mapping[str, str]) -> dict[str, int]:
    """Return the number of scenarios that run each builder of the target, in the order given."""
    counts = Counter(registry.values())
    return {builder: counts[builder] for builder in builders}


def uncovered_causes(builders: Sequence[str], *, registry: Mapping[str, str]) -> tuple[Cause, ...]:
    """Return one finding for each builder of the target that no scenario runs."""
    counts = count_coverage(builders, registry=registry)
    return tuple(
        Cause(
            kind=Kind.UNCOVERED_BUILDER,
            builder=builder,
            where=builder,
            message=f"{builder} is a stack builder of the target, and no scenario plays it.",
            rank=(_FINDING_LAYER, position),
        )
        for position, (builder, number) in enumerate(counts.items())
        if number == 0
    )


def _first_non_canonical_line(golden: Golden) -> tuple[int, str, str]:
    found = golden.content.decode().split("\n")
    wanted = render(golden.trace).split("\n")
    for number, (line, right) in enumerate(zip(found, wanted, strict=False), start=1):
        if line != right:
            return number, line, right
    return min(len(found), len(wanted)), f"{len(found)} lines", f"{len(wanted)} lines"
