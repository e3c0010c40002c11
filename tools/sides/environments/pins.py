"""Pinned requirement lists of the releases.

The lists lie in ``traces/targets/sglang/requirements/``; ``releases.toml`` names those of every
release.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tools.errors import ToolError

_FOLDER = (
    Path(__file__).resolve().parents[3] / "traces" / "targets" / "sglang" / "data" / "requirements"
)
_RELEASES = "releases.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The requirement lists of one release.

    Attributes:
        lists: requirement files, the one that goes first on ``sys.path`` first.
        note: why they are those of another release; empty when they are its own.
    """

    lists: tuple[Path, ...]
    note: str


def parse_release(text: str) -> str:
    """Return a version in its normal form.

    Raises:
        ToolError: it is no version.
    """
    try:
        return str(Version(text))
    except InvalidVersion as error:
        expected = "pypi:VERSION such as pypi:0.5.12"
        raise ToolError("side", "must name a version", expected=expected, got=repr(text)) from error


def newest_release(folder: Path = _FOLDER) -> str:
    """Return the newest release that has lists of its own."""
    return str(max(_releases(folder)))


def pins_of(release: str, *, folder: Path = _FOLDER) -> Pins:
    """Return the lists of a release; of the nearest older one that has some, where it has none.

    A release older than all of them gets the oldest lists.
    """
    releases = _releases(folder)
    wanted = Version(release)
    older = [known for known in releases if known <= wanted]
    used = max(older) if older else min(releases)
    note = "" if used == wanted else f"no pinned requirements for {release}: those of {used} used"
    return Pins(lists=tuple(folder / f"{name}.txt" for name in releases[used]), note=note)


@cache
def _releases(folder: Path) -> dict[Version, tuple[str, ...]]:
    listed = tomllib.loads((folder / _RELEASES).read_text(encoding="utf-8"))
    return {Version(release): tuple(names) for release, names in listed.items()}
