"""Walks two logs side by side to the first call that differs though its caller's inputs do not."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from traces.divergence.logs import CallLog, CallNode, ValueText
from traces.divergence.source_comparison import SourceComparison

DivergenceKind: TypeAlias = Literal[
    "argument", "parameter", "removed", "added", "reordered", "inside"
]

_CALLABLE = re.compile(r'"callable": "([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Where two sides part for the first time.

    Attributes:
        what: ``argument``: a call is given something else; ``parameter``: a function lost or got a
            parameter; ``removed``, ``added``, ``reordered``: a call; ``inside``: a function with
            equal inputs does something else by its own lines.
        around: the call in which it happens, on both sides; None at the outermost level.
        base: the call of the base; None for one that was added.
        head: the call of the head; None for one that was removed.
        name: of the argument or parameter; empty for none.
        before: its value in the base.
        after: its value in the head.
    """

    what: DivergenceKind
    enclosing: tuple[CallNode, CallNode] | None
    base: CallNode | None
    head: CallNode | None
    name: str = ""
    before: ValueText | None = None
    after: ValueText | None = None

    @property
    def enclosing_line(self) -> int:
        """A line of the head within the function around; 0 when nothing was called there."""
        return self.head.site_line if self.head is not None else 0


def first_divergence(
    base: CallLog, head: CallLog, *, sources: SourceComparison
) -> Divergence | None:
    """Return where two logs part for the first time, None when that cannot be told.

    A function that one side does not define is no call of its own: what it calls is its caller's.
    """
    walk = _LogComparison(sources=sources, callables=base.callables & head.callables)
    for old, new in zip(base.threads, head.threads, strict=False):
        found = walk.compare_children(None, old, new)
        if found is not None:
            return found
    return None


@dataclass(slots=True, kw_only=True)
class _LogComparison:
    sources: SourceComparison
    callables: frozenset[str]
    _effects_by_call: dict[int, tuple[CallNode, ...]] = field(default_factory=dict)

    def compare_children(
        self,
        enclosing: tuple[CallNode, CallNode] | None,
        base: Sequence[CallNode],
        head: Sequence[CallNode],
    ) -> Divergence | None:
        """Compare what one call made on both sides."""
        old = list(self._visible(base, in_head=False))
        new = list(self._visible(head, in_head=True))
        i = j = 0
        passed: list[CallNode] = []
        while i < len(old) or j < len(new):
            one = old[i] if i < len(old) else None
            other = new[j] if j < len(new) else None
            if one and other and self._are_given_the_same(one, other):
                found = self.compare_calls(one, other)
                i, j = i + 1, j + 1
            else:
                steps, found = self._classify(enclosing, old[i:], new[j:])
                passed += [*old[i : i + steps[0]], *new[j : j + steps[1]]]
                i, j = i + steps[0], j + steps[1]
            if found is not None:
                return _as_reordered(found, passed)
        return None

    def compare_calls(self, base: CallNode, head: CallNode) -> Divergence | None:
        """Compare two calls with the same inputs.

        Where both give, leave and do the same, only an object that was made or changed in another
        way inside counts: it may be kept, and show much later.
        """
        around = (base, head)
        found = self.compare_children(around, base.children, head.children)
        if self._leave_the_same(base, head):
            return found if found is not None and self._leave_other_objects(base, head) else None
        if found is None and not self._have_same_ends(base, head):
            found = Divergence(what="inside", enclosing=around, base=base, head=head)
        if found is not None and found.enclosing == around:
            return self._lone_parameter(base, head) or found
        return found

    def _left_values(
        self, call: CallNode, *, in_head: bool
    ) -> dict[tuple[str, str], set[ValueText]]:
        """Return every value of every attribute that a call and those in it left, by function."""
        found: dict[tuple[str, str], set[ValueText]] = {}
        pending = [call]
        while pending:
            one = pending.pop()
            pending += self._visible(one.children, in_head=in_head)
            for name, value in one.after.items():
                found.setdefault((one.function, name), set()).add(value)
        return found

    def _leave_other_objects(self, base: CallNode, head: CallNode) -> bool:
        """Tell whether an object was made or changed in another way inside."""
        old, new = self._left_values(base, in_head=False), self._left_values(head, in_head=True)
        return any(
            self._hold_others(old[key] - new[key], new[key] - old[key])
            for key in old.keys() & new.keys()
        )

    def _hold_others(self, old: set[ValueText], new: set[ValueText]) -> bool:
        if not old or not new:
            return bool(old or new)
        return any(not any(self._equal(one, other) for other in new) for one in old)

    def _classify(
        self,
        enclosing: tuple[CallNode, CallNode] | None,
        old: Sequence[CallNode],
        new: Sequence[CallNode],
    ) -> tuple[tuple[int, int], Divergence | None]:
        """Say how the next calls differ; return how many of each side were dealt with."""
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
        both = is_kept and is_known and _has_effect(one) and _has_effect(other)
        if both:
            return (1, 1), Divergence(what="reordered", enclosing=enclosing, base=one, head=other)
        if one is not None and (not is_kept or other is None):
            found = Divergence(what="removed", enclosing=enclosing, base=one, head=None)
            return (1, 0), found if _has_effect(one) else None
        if other is not None and (not is_known or one is None):
            found = Divergence(what="added", enclosing=enclosing, base=None, head=other)
            return (0, 1), found if _has_effect(other) else None
        return (int(not _has_effect(one)), int(not _has_effect(other))), None

    def _occurs_in(self, call: CallNode, others: Sequence[CallNode]) -> bool:
        return any(self._are_given_the_same(call, other) for other in others)

    def _other_argument(
        self, enclosing: tuple[CallNode, CallNode] | None, base: CallNode, head: CallNode
    ) -> Divergence | None:
        """Say which input of a call differs; None when that makes no difference."""
        if self._leave_the_same(base, head) and not self._leave_other_objects(base, head):
            return None
        name = next(
            (
                name
                for name, value in base.inputs.items()
                if name in head.inputs and not self._equal(value, head.inputs[name])
            ),
            "",
        )
        return _input_divergence("argument", name, base, head, enclosing=enclosing)

    def _lone_parameter(self, base: CallNode, head: CallNode) -> Divergence | None:
        """Return a parameter that one side lacks, unless the other side only names it otherwise."""
        gone = [name for name in base.inputs if name not in head.inputs]
        come = [name for name in head.inputs if name not in base.inputs]
        if len(gone) == len(come):
            return None
        return _input_divergence("parameter", (gone or come)[0], base, head, enclosing=None)

    def _visible(self, calls: Sequence[CallNode], *, in_head: bool) -> Iterator[CallNode]:
        for call in calls:
            if self.sources.defines(call.function, call.file, in_head=not in_head) or not call.file:
                yield call
            else:
                yield from self._visible(call.children, in_head=in_head)

    def _are_given_the_same(self, base: CallNode, head: CallNode) -> bool:
        return (
            base.function == head.function
            and self._agree(base.inputs, head.inputs)
            and self._agree(base.before, head.before)
        )

    def _have_same_ends(self, base: CallNode, head: CallNode) -> bool:
        return self._equal(base.returned, head.returned) and self._agree(base.after, head.after)

    def _leave_the_same(self, base: CallNode, head: CallNode) -> bool:
        """Tell whether two calls give and leave the same, and do the same on the way."""
        return self._have_same_ends(base, head) and self._do_the_same(base, head)

    def _do_the_same(self, base: CallNode, head: CallNode) -> bool:
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
        return not names <= self.callables and _without_callable_names(
            old
        ) == _without_callable_names(new)


def _input_divergence(
    what: DivergenceKind,
    name: str,
    base: CallNode,
    head: CallNode,
    *,
    enclosing: tuple[CallNode, CallNode] | None,
) -> Divergence:
    """Return a parting at one input of a call, with what both sides give it."""
    return Divergence(
        what=what,
        enclosing=enclosing,
        base=base,
        head=head,
        name=name,
        before=base.inputs.get(name),
        after=head.inputs.get(name),
    )


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


def _as_reordered(found: Divergence, passed: Sequence[CallNode]) -> Divergence:
    """Return a call that came earlier, and did nothing there, as the same one at another place."""
    call = found.base or found.head
    if call is None or found.what not in ("removed", "added"):
        return found
    earlier = [one for one in passed if one is not call and one.function == call.function]
    if not earlier:
        return found
    is_gone = found.what == "removed"
    return replace(
        found,
        what="reordered",
        base=call if is_gone else earlier[-1],
        head=earlier[-1] if is_gone else call,
    )


def _same_call_count(function: str, old: Sequence[CallNode], new: Sequence[CallNode]) -> bool:
    """Tell whether both sides call a function as often as each other."""
    base_num, head_num = (sum(call.function == function for call in calls) for calls in (old, new))
    return base_num == head_num


def _has_effect(call: CallNode | None) -> bool:
    """Tell whether a call does anything but compute: it is recorded, or leaves another state."""
    if call is None:
        return False
    is_made = call.function.endswith(("__init__", "__new__"))
    return (not is_made and call.before != call.after) or any(True for _ in call.watched())
