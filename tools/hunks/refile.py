"""Filing of every difference under the cause whose hunks make it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from tools.hunks.bisection import Making
from traces.diff.comparison import upstream_first
from traces.schema.verdict import Cause, Consequence, Level, SourceHunk

_Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The differences that some hunks make: causes, and everything that follows from these."""

    made_by: tuple[SourceHunk, ...]
    roots: Mapping[_Key, Cause]
    followers: frozenset[_Key]

    @classmethod
    def of(cls, making: Making) -> "_Group":
        hunks = sorted(making.hunks, key=lambda hunk: hunk.number)
        return cls(
            made_by=tuple(hunk.record for hunk in hunks),
            roots={_key(cause): cause for cause in making.causes},
            followers=frozenset(_key(one) for cause in making.causes for one in cause.consequences),
        )

    def makes(self, key: _Key) -> bool:
        return key in self.roots or key in self.followers


def file_by_hunks(causes: Sequence[Cause], makings: Sequence[Making]) -> tuple[Cause, ...]:
    """Return causes with the hunks that make them, each consequence under its own hunks' cause.

    A difference that was only a consequence becomes a cause where its hunks make nothing more
    upstream. One that no hunk makes stays where it is.
    """
    filing = _Filing(groups=[_Group.of(making) for making in makings])
    filing.place_causes(causes)
    filing.place_consequences()
    return upstream_first(entry.cause() for entry in filing.entries)


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A cause to be, with the groups that make it."""

    known: Cause
    groups: list[_Group]
    consequences: list[Consequence] = field(default_factory=list)

    def add(self, found: Consequence) -> None:
        """Add a consequence, or count it with the same one."""
        for index, one in enumerate(self.consequences):
            if (one.kind, one.where) == (found.kind, found.where):
                level = Level.worst((one.level, found.level))
                self.consequences[index] = msgspec.structs.replace(one, level=level)
                return
        self.consequences.append(found)

    def cause(self) -> Cause:
        hunks = dict.fromkeys(hunk for group in self.groups for hunk in group.made_by)
        key = _key(self.known)
        roots = [group.roots[key] for group in self.groups if key in group.roots]
        own = [root.level for root in roots] or [self.known.level]
        return msgspec.structs.replace(
            self.known,
            level=Level.worst((*own, *(one.level for one in self.consequences))),
            consequences=tuple(self.consequences),
            made_by=tuple(hunks),
        )


@dataclass(slots=True, kw_only=True)
class _Filing:
    groups: list[_Group]
    entries: list[_Entry] = field(default_factory=list)
    moved: list[tuple[Consequence, list[_Group]]] = field(default_factory=list)

    def place_causes(self, causes: Sequence[Cause]) -> None:
        """Make an entry of every cause, and of what each group makes first."""
        for cause in causes:
            key = _key(cause)
            making = self._groups_making(cause)
            following = [group for group in self.groups if key in group.followers]
            if following and not making:
                self.moved.append((cause.as_consequence(), following))
                self.moved += [(one, following) for one in cause.consequences]
            else:
                entry = _Entry(known=cause, groups=making, consequences=list(cause.consequences))
                self.entries.append(entry)
        known = {_key(entry.known) for entry in self.entries}
        for group in self.groups:
            for key, root in group.roots.items():
                if key not in known:
                    known.add(key)
                    entry = _Entry(
                        known=root,
                        groups=self._groups_making(root),
                        consequences=list(root.consequences),
                    )
                    self.entries.append(entry)

    def place_consequences(self) -> None:
        """Move every consequence that other hunks make to their first cause."""
        for entry in self.entries:
            kept = []
            for found in entry.consequences:
                makers = [group for group in self.groups if group.makes(_key(found))]
                if not makers or any(group in makers for group in entry.groups):
                    kept.append(found)
                else:
                    self.moved.append((found, makers))
            entry.consequences = kept
        for found, makers in self.moved:
            # A difference that is an entry of its own is no consequence besides.
            if not any(_key(found) in group.roots for group in makers):
                self._first_entry(makers[0]).add(found)

    def _groups_making(self, cause: Cause) -> list[_Group]:
        """Return the groups that have the cause first, those with the same line if there are."""
        key = _key(cause)
        found = [group for group in self.groups if key in group.roots]
        exact = [group for group in found if group.roots[key].location == cause.location]
        return exact or found

    def _first_entry(self, group: _Group) -> _Entry:
        own = [entry for entry in self.entries if group in entry.groups]
        return min(own, key=lambda entry: (entry.known.level.rank, entry.known.rank))


def _key(found: Cause | Consequence) -> _Key:
    """Return what is the same for one difference in two reports: running numbers are left out.

    Of an event on a stream that is its step and its stream: the event's own name has a number, and
    a report may show one event of a series, or the whole series.
    """
    record = found.after if found.before is None else found.before
    if isinstance(record, dict) and {"step", "name", "stream"} <= record.keys():
        fields = " ".join(sorted(record))
        return (found.kind, f"{record['step']} {record['stream']}: {fields}")
    return (found.kind, re.sub(r"\d+", "*", found.where))
