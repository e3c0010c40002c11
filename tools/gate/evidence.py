"""Evidence of a cause for its reader: source lines of both sides, and rows that fit no longer."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tools.errors import ToolError
from tools.gate.refine import RefineContext, scenario_size
from tools.git import git, is_repository
from tools.sides.open import OpenSide
from tools.sides.targets import NATIVE
from traces.audit.conservation import byte_mismatches
from traces.divergence.source_comparison import ReadSource, SourceComparison
from traces.schema.model import Recording
from traces.schema.verdict import Cause


def add_evidence(causes: Sequence[Cause], context: RefineContext) -> tuple[Cause, ...]:
    """Return the causes with the lines at their places, and with rows that fit no longer.

    Both sides are still open. For a golden its lines are those of the commit that is checked out.
    """
    sources = SourceComparison(base=_base_reader(context), head=_reader(context.head))
    return tuple(
        msgspec.structs.replace(
            cause,
            source=None if cause.location is None else sources.lines_at(cause.location),
            effect=_new_mismatch(cause, context),
        )
        for cause in causes
    )


def _reader(side: OpenSide | None) -> ReadSource:
    def read(file: str) -> str | None:
        return None if side is None else _text_of(side.root / file)

    return read


def _base_reader(context: RefineContext) -> ReadSource:
    session = context.request.session
    is_committed = session.target == NATIVE and is_repository(session.root)
    if context.base is not None or not is_committed:
        return _reader(context.base)

    def read(file: str) -> str | None:
        try:
            return git(session.root, "show", f"HEAD:./{file}")
        except ToolError:
            return None

    return read


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _new_mismatch(cause: Cause, context: RefineContext) -> str:
    """Return what the audit of bytes finds in the cause's smallest scenario on the head alone."""
    base, head = context.recordings
    able = [name for name in cause.scenarios if name in base and name in head]
    if not able:
        return ""
    name = min(able, key=lambda one: (scenario_size(context, one), one))
    known = set(_mismatches(name, base[name]))
    return next((text for text in _mismatches(name, head[name]) if text not in known), "")


def _mismatches(name: str, recording: Recording) -> list[str]:
    return [found.message for found in byte_mismatches({name: recording})]
