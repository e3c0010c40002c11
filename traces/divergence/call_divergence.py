"""Search for the first call that differs between two logs though its caller has equal inputs."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from traces.diff.values import IDENTICAL, FieldChange, field_changes
from traces.divergence.logs import CallLog, CallNode, ValueText
from traces.divergence.source_comparison import SourceComparison
from traces.schema.verdict import Kind

NodePair: TypeAlias = tuple[CallNode, CallNode]
"""One call in the base and in the head."""

_Attribute: TypeAlias = tuple[str, str]
_ARGUMENT_KINDS = (Kind.ARGUMENT_CHANGED, Kind.ARGUMENT_DROPPED, Kind.ARGUMENT_ADDED)
_CALLABLE = re.compile(r'"callable": "([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The place where two sides differ for the first time.

    Attributes:
        kind: of a cause, for a call, an argument or a parameter; None when only the place is
            known, as for a function with equal inputs that does something else by its own lines.
        enclosing: the call in which it happens, on both sides; None at the outermost level.
        base: the call of the base; None for one that was added.
        head: the call of the head; None for one that was removed.
        name: of the argument or parameter; empty for none.
        field: the innermost field of the argument that differs, where it has fields.
    """

    kind: Kind | None
    enclosing: NodePair | None
    base: CallNode | None
    head: CallNode | None
    name: str = ""
    field: FieldChange | None = None

    @property
    def callee(self) -> str:
        """Function or class that is called; empty when only the place is known."""
        call = (self.head or self.base) if self.name else (self.base or self.head)
        return call.callee if call is not None and self.kind else ""

    @property
    def is_value(self) -> bool:
        """True for another value of an argument, or of a field of it."""
        return bool(self.name) and self.kind in _ARGUMENT_KINDS

    @property
    def parameter(self) -> str | None:
        """Name of the argument or parameter, dotted for a field; None for none."""
        return (self.field.name if self.field else self.name) or None

    @property
    def argument(self) -> Any:  # noqa: ANN401 - any JSON
        """The whole argument in the head, or in the base where the head lacks the call."""
        call = self.head or self.base
        return None if call is None else _parsed(call.inputs.get(self.name))

    @property
    def before(self) -> Any:  # noqa: ANN401 - any JSON
        """Value of the argument, field or parameter in the base."""
        if self.field is not None:
            return self.field.before
        return None if self.base is None else _parsed(self.base.inputs.get(self.name))

    @property
    def after(self) -> Any:  # noqa: ANN401 - any JSON
        """Value of the argument, field or parameter in the head."""
        if self.field is not None:
            return self.field.after
        return None if self.head is None else _parsed(self.head.inputs.get(self.name))

    @property
    def is_inside(self) -> bool:
        """True for a function with equal inputs that does something else by its own lines."""
        return self.enclosing == (self.base, self.head)

    @property
    def enclosing_line(self) -> int:
        """A line of the head in the enclosing function; 0 when nothing was called there."""
        return self.head.site_line if self.head is not None else 0


def first_divergence(
    base: CallLog, head: CallLog, *, sources: SourceComparison
) -> Divergence | None:
    """Return the first difference of two logs; None when none is found.

    A function that one side does not define is no call of its own: what it calls is its caller's.
    """
    comparison = _LogComparison(sources=sources, callables=base.callables & head.callables)
    threads = zip(base.threads, head.threads, strict=False)
    found = (comparison.compare_children(None, old, new) for old, new in threads)
    return next(filter(None, found), None)


@dataclass(slots=True, kw_only=True)
class _LogComparison:
    sources: SourceComparison
    callables: frozenset[str]
    _effects_by_call: dict[int, tuple[CallNode, ...]] = field(default_factory=dict)

    def compare_children(
        self, enclosing: NodePair | None, base: Sequence[CallNode], head: Sequence[CallNode]
    ) -> Divergence | None:
        """Compare what one call made on both sides."""
        old = list(self._visible(base, in_head=False))
        new = list(self._visible(head, in_head=True))
        i = j = 0
        passed: list[CallNode] = []
        while i < len(old) or j < len(new):
            one = old[i] if i < len(old) else None
            other = new[j] if j < len(new) else None
            if one and other and self._have_same_inputs(one, other):
                found = self.compare_calls(one, other)
                i, j = i + 1, j + 1
            else:
                steps, found = self._classify(enclosing, old[i:], new[j:])
                found = found if found is not None and _is_by_changed(found) else None
                passed += [*old[i : i + steps[0]], *new[j : j + steps[1]]]
                i, j = i + steps[0], j + steps[1]
            if found is not None:
                return _as_reordered(found, passed)
        return None

    def compare_calls(self, base: CallNode, head: CallNode) -> Divergence | None:
        """Compare two calls with the same inputs.

        Where results, objects and side effects are equal, only an object that was made or changed
        in another way inside counts: it may be kept, and show much later.
        """
        enclosing = (base, head)
        found = self.compare_children(enclosing, base.children, head.children)
        if not (base.has_values and head.has_values):
            return found
        if self._have_same_effect(base, head):
            return found if found is not None and self._leave_unequal_objects(base, head) else None
        is_changed = base.is_changed or head.is_changed
        if found is None and is_changed and not self._have_same_results(base, head):
            found = Divergence(kind=None, enclosing=enclosing, base=base, head=head)
        if found is not None and found.enclosing == enclosing:
            return self._unmatched_parameter(base, head) or found
        return found

    def _left_values(self, call: CallNode, *, in_head: bool) -> dict[_Attribute, set[ValueText]]:
        """Return every value of every attribute that a call and those in it left, by function."""
        found: dict[_Attribute, set[ValueText]] = {}
        pending = [call]
        while pending:
            one = pending.pop()
            pending += self._visible(one.children, in_head=in_head)
            for name, value in one.after.items():
                found.setdefault((one.function, name), set()).add(value)
        return found

    def _leave_unequal_objects(self, base: CallNode, head: CallNode) -> bool:
        old, new = self._left_values(base, in_head=False), self._left_values(head, in_head=True)
        return any(
            self._have_unequal(old[key] - new[key], new[key] - old[key])
            for key in old.keys() & new.keys()
        )

    def _have_unequal(self, old: set[ValueText], new: set[ValueText]) -> bool:
        if not old or not new:
            return bool(old or new)
        return any(not any(self._equal(one, other) for other in new) for one in old)

    def _classify(
        self, enclosing: NodePair | None, old: Sequence[CallNode], new: Sequence[CallNode]
    ) -> tuple[tuple[int, int], Divergence | None]:
        """Return how many of the next calls of each side are passed, and how they differ."""
        one, other = (old[0] if old else None), (new[0] if new else None)
        is_kept = one is not None and self._occurs_in(one, new)
        is_known = other is not None and self._occurs_in(other, old)
        if one and other and not (is_kept and is_known) and one.function == other.function:
            is_alone = not (is_kept or is_known)
            if is_alone or _same_call_count(one.function, old, new):
                return (1, 1), self._other_argument(enclosing, one, other)
        if one and other and not is_kept and not is_known:
            # By name alone: a later call may be given other things because of this.
            is_kept = any(one.function == call.function for call in new)
            is_known = any(other.function == call.function for call in old)
        kind = Kind.CALL_REORDERED
        if is_kept and is_known and _has_effect(one) and _has_effect(other):
            return (1, 1), Divergence(kind=kind, enclosing=enclosing, base=one, head=other)
        if one is not None and (not is_kept or other is None):
            found = Divergence(kind=Kind.CALL_REMOVED, enclosing=enclosing, base=one, head=None)
            return (1, 0), found if _has_effect(one) else None
        if other is not None and (not is_known or one is None):
            found = Divergence(kind=Kind.CALL_ADDED, enclosing=enclosing, base=None, head=other)
            return (0, 1), found if _has_effect(other) else None
        return (int(not _has_effect(one)), int(not _has_effect(other))), None

    def _occurs_in(self, call: CallNode, others: Sequence[CallNode]) -> bool:
        return any(self._have_same_inputs(call, other) for other in others)

    def _other_argument(
        self, enclosing: NodePair | None, base: CallNode, head: CallNode
    ) -> Divergence | None:
        """Return the input of a call that differs; None when its effect is the same."""
        if self._have_same_effect(base, head) and not self._leave_unequal_objects(base, head):
            return None
        old, new = base.inputs, head.inputs
        shared = (name for name in old if name in new)
        name = next((name for name in shared if not self._equal(old[name], new[name])), "")
        if not name:
            return Divergence(kind=None, enclosing=enclosing, base=base, head=head)
        field = self._changed_field(name, old[name], new[name])
        kind = Kind.ARGUMENT_CHANGED
        if field is not None and not (field.has_before and field.has_after):
            kind = Kind.ARGUMENT_DROPPED if field.has_before else Kind.ARGUMENT_ADDED
        return Divergence(
            kind=kind, enclosing=enclosing, base=base, head=head, name=name, field=field
        )

    def _changed_field(self, name: str, old: ValueText, new: ValueText) -> FieldChange | None:
        """Return the first field in which two values of an argument differ; None without fields."""
        changes = field_changes(name, _parsed(old), _parsed(new), IDENTICAL)
        differing = (
            one
            for one in changes
            if one.name != name and not self._equal(_text(one.before), _text(one.after))
        )
        return next(differing, None)

    def _unmatched_parameter(self, base: CallNode, head: CallNode) -> Divergence | None:
        """Return a parameter that one side lacks, unless the other side only names it otherwise."""
        gone = [name for name in base.inputs if name not in head.inputs]
        come = [name for name in head.inputs if name not in base.inputs]
        if len(gone) == len(come):
            return None
        name, kind = (gone or come)[0], Kind.PARAMETER_REMOVED if gone else Kind.PARAMETER_ADDED
        return Divergence(kind=kind, enclosing=None, base=base, head=head, name=name)

    def _visible(self, calls: Sequence[CallNode], *, in_head: bool) -> Iterator[CallNode]:
        for call in calls:
            if self.sources.defines(call.function, call.file, in_head=not in_head) or not call.file:
                yield call
            else:
                yield from self._visible(call.children, in_head=in_head)

    def _have_same_inputs(self, base: CallNode, head: CallNode) -> bool:
        return (
            base.function == head.function
            and self._agree(base.inputs, head.inputs)
            and self._agree(base.before, head.before)
        )

    def _have_same_results(self, base: CallNode, head: CallNode) -> bool:
        return self._equal(base.returned, head.returned) and self._agree(base.after, head.after)

    def _have_same_effect(self, base: CallNode, head: CallNode) -> bool:
        if not self._have_same_results(base, head):
            return False
        old, new = self._side_effects(base), self._side_effects(head)
        return len(old) == len(new) and all(
            one.function == other.function and self._agree(one.inputs, other.inputs)
            for one, other in zip(old, new, strict=True)
        )

    def _side_effects(self, call: CallNode) -> tuple[CallNode, ...]:
        if id(call) not in self._effects_by_call:
            self._effects_by_call[id(call)] = tuple(call.watched())
        return self._effects_by_call[id(call)]

    def _agree(self, old: Mapping[str, ValueText], new: Mapping[str, ValueText]) -> bool:
        return all(self._equal(value, new[name]) for name, value in old.items() if name in new)

    def _equal(self, old: ValueText, new: ValueText) -> bool:
        """Compare two values; a callable that only one side knows may wrap any other."""
        if old == new:
            return True
        names = {*_CALLABLE.findall(old), *_CALLABLE.findall(new)}
        is_known = names <= self.callables
        return not is_known and _without_callable_names(old) == _without_callable_names(new)


def _parsed(text: ValueText | None) -> Any:  # noqa: ANN401 - any JSON
    """Return the value of a text; of one too long to be kept whole the text."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> ValueText:  # noqa: ANN401 - any JSON
    return json.dumps(value, sort_keys=True)


def _without_callable_names(text: ValueText) -> ValueText:
    """Return a value with all callables made alike; nothing of one too long to be kept whole."""
    if _CALLABLE.search(text) is None:
        return text
    try:
        return json.dumps(_without_callables(json.loads(text)))
    except ValueError:
        return ""


def _without_callables(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_without_callables(item) for item in value]
    if isinstance(value, dict):
        is_callable = "callable" in value or "partial" in value
        kept = {key: _without_callables(item) for key, item in value.items()}
        return {"callable": "?"} if is_callable else kept
    return value


def _is_by_changed(found: Divergence) -> bool:
    """Return whether changed code makes the calls: other code does so only as a consequence."""
    return any(call is not None and call.by_changed for call in (found.base, found.head))


def _as_reordered(found: Divergence, passed: Sequence[CallNode]) -> Divergence:
    """Return a call that came earlier, and did nothing there, as the same one at another place."""
    call = found.base or found.head
    if call is None or found.kind not in (Kind.CALL_REMOVED, Kind.CALL_ADDED):
        return found
    earlier = [one for one in passed if one is not call and one.function == call.function]
    if not earlier:
        return found
    is_gone = found.kind is Kind.CALL_REMOVED
    return replace(
        found,
        kind=Kind.CALL_REORDERED,
        base=call if is_gone else earlier[-1],
        head=earlier[-1] if is_gone else call,
    )


def _same_call_count(function: str, old: Sequence[CallNode], new: Sequence[CallNode]) -> bool:
    return len({sum(call.function == function for call in calls) for calls in (old, new)}) == 1


def _has_effect(call: CallNode | None) -> bool:
    """Return whether a call does anything but compute: it is recorded, or leaves another state."""
    if call is None:
        return False
    is_made = call.function.endswith(("__init__", "__new__"))
    return (not is_made and call.before != call.after) or any(True for _ in call.watched())
