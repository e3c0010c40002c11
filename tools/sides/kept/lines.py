"""Source lines of a kept run, moved to where they are in the tree that it now stands for."""

from collections.abc import Mapping
from difflib import SequenceMatcher
from functools import cache

import msgspec

from tools.sides.kept.store import KeptRun
from tools.sides.kept.trees import TreeContent
from traces.schema.canonical import parse_sites, render_sites
from traces.schema.model import Location, Sites


def move_sites(run: KeptRun, texts: Mapping[str, str], tree: TreeContent) -> KeptRun:
    """Return a kept run with its lines as another tree numbers them.

    ``texts`` are the modules as they were; a line that is gone keeps its number.
    """
    if not run.sites:
        return run
    sites = parse_sites(run.sites)
    files = {one.file for one in _locations(sites)} & texts.keys()
    numbers = {file: _moved_lines(texts[file], tree.text(file) or "") for file in files}
    if not any(numbers.values()):
        return run

    def move(place: Location | None) -> Location | None:
        if place is None:
            return None
        line = numbers.get(place.file, {}).get(place.line, place.line)
        return Location(file=place.file, line=line)

    moved = msgspec.structs.replace(
        sites,
        calls={name: move(place) for name, place in sites.calls.items()},
        definitions={name: move(place) for name, place in sites.definitions.items()},
        events=tuple(map(move, sites.events)),
        failure=move(sites.failure),
    )
    return msgspec.structs.replace(run, sites=render_sites(moved))


def _locations(sites: Sites) -> list[Location]:
    places = [*sites.calls.values(), *sites.definitions.values(), *sites.events, sites.failure]
    return [place for place in places if place is not None]


@cache
def _moved_lines(before: str, after: str) -> dict[int, int]:
    """Return the new number of each line that moved."""
    if before == after:
        return {}
    matcher = SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    return {
        start + offset + 1: moved + offset + 1
        for start, moved, size in matcher.get_matching_blocks()
        for offset in range(size)
        if start != moved
    }
