"""Review of golden changes, cause by cause: decisions, and the goldens that they settle.

Decisions are kept in ``.goldentrace/review.json`` until their goldens are written, so that an
interrupted review goes on where it was. A decision belongs to a cause with its values and
scenarios: when the code changes again so that the cause differs, the decision is void.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from tools.errors import ToolError, require_writable_path
from tools.gate.regenerate import GoldenChange, RegenerationPlan
from traces.schema.transaction import Transaction
from traces.schema.verdict import Cause

SCHEMA = "goldentrace.review/1"
_STATE_NAME = "review.json"


class Choice(StrEnum):
    """The decision on one cause."""

    ACCEPT = "accept"
    REJECT = "reject"


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice; an accepted cause has the reason for the CHANGELOG."""

    choice: Choice
    reason: str = ""


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    decisions: dict[str, Decision]


def cause_id(cause: Cause) -> str:
    """Return a name of a cause that changes with its values and its scenarios, not its line."""
    identity = (
        cause.kind,
        cause.builder,
        cause.callee,
        cause.parameter,
        cause.where,
        cause.before,
        cause.after,
        cause.scenarios,
    )
    return hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:12]


def matches(cause: Cause, pattern: str) -> bool:
    """Return whether an ``fnmatch`` pattern names the cause.

    It is compared with the cause's id, kind, parameter, place in the trace and
    ``kind:parameter``.
    """
    subject = cause.parameter or cause.where
    names = (cause_id(cause), cause.kind, subject, f"{cause.kind}:{subject}")
    return any(fnmatchcase(name, pattern) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The causes of a plan and the decisions on them so far.

    Attributes:
        plan: the changes that a regeneration would make.
        path: the file that keeps decisions.
        decisions: by id of the cause; only of causes that the plan has.
    """

    plan: RegenerationPlan
    path: Path
    decisions: dict[str, Decision] = field(default_factory=dict)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """All causes, most upstream first."""
        return self.plan.result.causes

    @property
    def pending(self) -> tuple[Cause, ...]:
        """The causes without a decision."""
        return tuple(cause for cause in self.causes if cause_id(cause) not in self.decisions)

    def decide(self, cause: Cause, decision: Decision) -> None:
        """Decide on a cause and keep the decision on disk.

        Raises:
            ToolError: the file cannot be written.
        """
        self.decisions[cause_id(cause)] = decision
        self.save()

    def save(self) -> None:
        """Write the decisions, or remove the file when there are none.

        Raises:
            ToolError: the file cannot be written.
        """
        state = _State(schema=SCHEMA, decisions=self.decisions)
        expected = "a file in the checkout"
        with require_writable_path(self.path, expected=expected), Transaction() as transaction:
            if self.decisions:
                self.path.parent.mkdir(exist_ok=True)
                transaction.write(self.path, msgspec.json.format(msgspec.json.encode(state)))
            elif self.path.exists():
                transaction.remove(self.path)
            transaction.commit()

    def settled(self) -> dict[str, list[GoldenChange]]:
        """Return the changes whose causes are all accepted, by the reason for the CHANGELOG.

        A golden that two causes touch is changed when both are accepted, under both reasons.
        """
        found: dict[str, list[GoldenChange]] = {}
        for change in self.plan.changes:
            decisions = [
                self.decisions.get(cause_id(cause))
                for cause in self.causes
                if change.name in cause.scenarios
            ]
            accepted = [one for one in decisions if one and one.choice is Choice.ACCEPT]
            if decisions and len(accepted) == len(decisions):
                reason = "; ".join(dict.fromkeys(one.reason for one in accepted))
                found.setdefault(reason, []).append(change)
        return found

    def forget(self, changes: Sequence[GoldenChange]) -> None:
        """Drop the accepted decisions whose goldens are all written."""
        written = {change.name for change in changes}
        for cause in self.causes:
            key = cause_id(cause)
            decision = self.decisions.get(key)
            if decision and decision.choice is Choice.ACCEPT and written >= set(cause.scenarios):
                del self.decisions[key]
        self.save()


def open_review(plan: RegenerationPlan, *, folder: Path) -> Review:
    """Return the review of a plan with the decisions that ``folder`` keeps.

    Raises:
        ToolError: the kept file cannot be read.
    """
    path = folder / _STATE_NAME
    known = {cause_id(cause) for cause in plan.result.causes}
    kept = _read_decisions(path)
    decisions = {key: decision for key, decision in kept.items() if key in known}
    return Review(plan=plan, path=path, decisions=decisions)


def _read_decisions(path: Path) -> Mapping[str, Decision]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        state = msgspec.json.decode(content, type=_State)
    except msgspec.DecodeError as error:
        rule, expected = "must be readable", f"schema {SCHEMA}, or no file"
        raise ToolError(str(path), rule, expected=expected, got=str(error)) from error
    if state.schema != SCHEMA:
        rule = "must have a known schema"
        raise ToolError(str(path), rule, expected=SCHEMA, got=repr(state.schema))
    return state.decisions
