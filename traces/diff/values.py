"""Comparison of encoded values: with their types, and references and owners by their objects."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from traces.diff.index import RecordingIndex, made_label
from traces.schema.model import Call
from traces.schema.references import with_classes

Value: TypeAlias = Any
"""An encoded value: None, bool, int, float, str, lists and dicts of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPair:
    """The same call on both sides."""

    base: Call
    head: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceMap:
    """The objects of one side and the same objects of the other.

    Attributes:
        to_head: object label of the base to that of the head, None for none; ``to_base`` inverse.
        unmade: the same for objects that no recorded call made.
    """

    to_head: Mapping[str, str | None]
    to_base: Mapping[str, str | None]
    unmade: Mapping[str, str]

    @classmethod
    def of(
        cls,
        pairs: Iterable[CallPair],
        gone: Iterable[Call],
        new: Iterable[Call],
        classes: tuple[Mapping[str, str], Mapping[str, str]],
    ) -> "ReferenceMap":
        """Match objects by the constructor calls that made them, others by class and order.

        ``classes`` has the class of every object, of both sides, under the head's names, in the
        order in which objects are matched; see :func:`by_first_use`.
        """
        made = [(made_label(pair.base), made_label(pair.head)) for pair in pairs]
        to_head = {**dict.fromkeys(map(made_label, gone)), **{b: h for b, h in made if b}}
        to_base = {**dict.fromkeys(map(made_label, new)), **{h: b for b, h in made if h}}
        old = _by_class(classes[0], without=to_head)
        seen = _by_class(classes[1], without=to_base)
        unmade = {
            label: partner
            for name, labels in old.items()
            for label, partner in zip(labels, seen.get(name, ()), strict=False)
        }
        return cls(to_head=to_head, to_base=to_base, unmade=unmade)

    def same_object(self, base: str, head: str) -> bool:
        """Return whether two labels name the same object."""
        if base in self.to_head or head in self.to_base:
            return self.to_head.get(base, "") == head
        return self.in_head(base) == head

    def in_head(self, label: str) -> str:
        """Translate an object label of the base."""
        return self.to_head.get(label) or self.unmade.get(label, label)


IDENTICAL = ReferenceMap(to_head={}, to_base={}, unmade={})
"""The map for values of one side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerMap:
    """Translation of owners and buffers of the base into the head's names.

    Only owners that no entry named are translated: they are called after their class.
    """

    owners: Mapping[str, str]
    buffers: Mapping[str, str]

    @classmethod
    def of(cls, base: RecordingIndex, head: RecordingIndex, references: ReferenceMap) -> "OwnerMap":
        """Match owners by their objects, where the base's is gone and the head's is new."""
        old, new = ({one.owner for one in side.trace.tensors} for side in (base, head))
        unnamed = {
            one.object: one.owner
            for one in head.trace.tensors
            if not one.is_named and one.owner not in old
        }
        owners = {
            one.owner: unnamed[partner]
            for one in base.trace.tensors
            if not one.is_named and one.owner not in new
            if (partner := references.in_head(one.object)) in unnamed
        }
        buffers = {
            f"{one.owner}.{one.name}": f"{owners[one.owner]}.{one.name}"
            for one in base.trace.tensors
            if one.owner in owners
        }
        return cls(owners=owners, buffers=buffers)

    def owner(self, name: str) -> str:
        """Return an owner of the base as the head calls it."""
        return self.owners.get(name, name)

    def buffer(self, name: str) -> str:
        """Return a buffer of the base, with its owner, as the head calls it."""
        return self.buffers.get(name, name)


NO_OWNERS = OwnerMap(owners={}, buffers={})
"""The translation of the head's own names."""


def same_value(before: Value, after: Value, references: ReferenceMap) -> bool:
    """Return whether two encoded values are equal: ``1``, ``1.0`` and ``True`` are three values."""
    if isinstance(before, dict) and isinstance(after, dict):
        if before.keys() == after.keys() == {"ref"}:
            return references.same_object(before["ref"], after["ref"])
        return before.keys() == after.keys() and all(
            same_value(value, after[key], references) for key, value in before.items()
        )
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return len(before) == len(after) and all(
            same_value(old, new, references) for old, new in zip(before, after, strict=True)
        )
    return type(before) is type(after) and (before == after or _both_nan(before, after))


def content_key(value: Value, classes: Mapping[str, str]) -> bytes:
    """Return a key of a value in which objects count by their class only."""
    return msgspec.json.encode(with_classes(value, classes), order="sorted")


def fields_of(value: Value) -> Mapping[str, Value] | None:
    """Return the fields of an object passed by value, or of a mapping from names; else None."""
    if not isinstance(value, dict):
        return None
    if value.keys() == {"object", "fields"}:
        return dict(value["fields"])
    return _fields_of_mapping(value)


def is_mapping(value: Value) -> bool:
    """Return whether a value is a mapping from names."""
    return isinstance(value, dict) and _fields_of_mapping(value) is not None


def _fields_of_mapping(value: Mapping[str, Value]) -> Mapping[str, Value] | None:
    if value.keys() != {"map"}:
        return None
    pairs = value["map"]
    named = all(isinstance(key, str) and key.isidentifier() for key, _ in pairs)
    return dict(pairs) if named else None


def dotted_fields(name: str, value: Value) -> Iterator[tuple[str, Value]]:
    """Yield an argument and, when it has fields, its dotted fields."""
    yield name, value
    for key, inner in (fields_of(value) or {}).items():
        yield from dotted_fields(f"{name}.{key}", inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A value, or the innermost field of it, that differs between two sides.

    Attributes:
        name: dotted.
        has_before: whether the base has the field; ``has_after`` the same of the head.
    """

    name: str
    before: Value = None
    after: Value = None
    has_before: bool = True
    has_after: bool = True


def field_changes(
    name: str, before: Value, after: Value, references: ReferenceMap
) -> Iterator[FieldChange]:
    """Yield what differs between two values: their fields where both have fields, else the value.

    Objects of two classes, or with other fields, differ as a whole.
    """
    if same_value(before, after, references):
        return
    old, new = fields_of(before), fields_of(after)
    if old is None or new is None or not _have_same_form(before, after):
        yield FieldChange(name=name, before=before, after=after)
        return
    for key in dict.fromkeys([*old, *new]):
        inner = f"{name}.{key}"
        if key not in new:
            yield FieldChange(name=inner, before=old[key], has_after=False)
        elif key not in old:
            yield FieldChange(name=inner, after=new[key], has_before=False)
        else:
            yield from field_changes(inner, old[key], new[key], references)


def _have_same_form(before: Value, after: Value) -> bool:
    if is_mapping(before) or is_mapping(after):
        return is_mapping(before) and is_mapping(after)
    same_class: bool = before["object"] == after["object"]
    return same_class and before["fields"].keys() == after["fields"].keys()


def references_in(value: Value) -> Iterator[str]:
    """Yield the object labels that occur in a value."""
    if isinstance(value, dict):
        if value.keys() == {"ref"}:
            yield value["ref"]
        else:
            yield from references_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from references_in(inner)


def by_first_use(
    classes: tuple[Mapping[str, str], Mapping[str, str]], pairs: Iterable[CallPair]
) -> tuple[dict[str, str], dict[str, str]]:
    """Sort the objects of both sides by the first paired call that gets them, others last.

    An object that only calls of one side get shifts the numbers of those after it, not their order.
    """
    old, new = dict[str, None](), dict[str, None]()
    for pair in pairs:
        old |= dict.fromkeys(_references_of(pair.base))
        new |= dict.fromkeys(_references_of(pair.head))
    return _sorted_by(classes[0], old), _sorted_by(classes[1], new)


def _references_of(call: Call) -> Iterator[str]:
    return references_in([argument.value for argument in call.arguments])


def _sorted_by(classes: Mapping[str, str], used: Iterable[str]) -> dict[str, str]:
    first = {label: classes[label] for label in used if label in classes}
    return first | {label: name for label, name in classes.items() if label not in first}


def is_informative(value: Value) -> bool:
    """Return whether two equal values are more than a coincidence: not None, not a truth value."""
    return value is not None and not isinstance(value, bool)


def _by_class(classes: Mapping[str, str], *, without: Collection[str]) -> dict[str, list[str]]:
    """Return the labels of each class, in order, without some."""
    found: dict[str, list[str]] = {}
    for label, name in classes.items():
        if label not in without:
            found.setdefault(name, []).append(label)
    return found


def _both_nan(before: Value, after: Value) -> bool:
    return isinstance(before, float) and before != before and after != after
