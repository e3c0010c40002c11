"""Files of an audit: the baseline of known findings with reasons, and the lineage of arguments."""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from traces.audit.finding import FindingKey, finding_key
from traces.audit.lineage import Lineage
from traces.errors import TraceFormatError
from traces.schema.verdict import Cause

BASELINE_SCHEMA = "goldentrace.baseline/1"
LINEAGE_SCHEMA = "goldentrace.lineage/1"

_EVERYWHERE = "*"
_MODELS = "models"


def parse_baseline(text: str, *, subject: str) -> dict[FindingKey, str]:
    """Return the reason of each known finding by its key.

    Raises:
        TraceFormatError: the text is no baseline, or a finding has no reason.
    """
    findings = _table(text, schema=BASELINE_SCHEMA, subject=subject).get("findings", {})
    if not isinstance(findings, dict):
        raise _format_error(
            subject, "must hold its findings in one table", got=type(findings).__name__
        )
    for key, reason in findings.items():
        if not isinstance(reason, str) or not reason.strip():
            raise _format_error(subject, f"finding {key!r} must have a reason", got=repr(reason))
    return known_keys(findings, subject=subject)


def known_keys(findings: Mapping[str, str], *, subject: str) -> dict[FindingKey, str]:
    """Return reasons by key, from reasons by the text of the key.

    Raises:
        TraceFormatError: a key names no kind of finding.
    """
    try:
        return {FindingKey.parse(text): reason for text, reason in findings.items()}
    except ValueError as error:
        raise _format_error(subject, "a finding must begin with its kind", got=error) from error


def unknown_findings(
    causes: Iterable[Cause], *, baseline: Mapping[FindingKey, str]
) -> tuple[Cause, ...]:
    """Return the findings that a baseline does not have."""
    return tuple(cause for cause in causes if finding_key(cause) not in baseline)


def outdated_keys(
    causes: Iterable[Cause], *, baseline: Mapping[FindingKey, str]
) -> tuple[FindingKey, ...]:
    """Return the keys of a baseline that no finding has any more."""
    found = {finding_key(cause) for cause in causes}
    return tuple(key for key in baseline if key not in found)


def render_lineage(lineage: Lineage, *, models: Sequence[str] = ()) -> str:
    """Return a lineage as TOML: sorted, one argument a table, one entry a line.

    Where all entries agree they are one line, named ``*``. ``models`` are those of the scenarios.
    """
    lines = [f'schema = "{LINEAGE_SCHEMA}"']
    if models:
        lines += [f"{_MODELS} = [", *(f"    {_quoted(model)}," for model in models), "]"]
    for name in sorted(lineage):
        lines += ["", f"[{_quoted(name)}]"]
        entries = lineage[name]
        if len(set(entries.values())) == 1:
            entries = {_EVERYWHERE: next(iter(entries.values()))}
        lines += [_line(entry, entries[entry]) for entry in sorted(entries)]
    return "\n".join(lines) + "\n"


def parse_lineage(
    text: str, *, subject: str, entries: Iterable[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the lineage that a text of :func:`render_lineage` holds; ``*`` is all entries.

    Raises:
        TraceFormatError: the text is no lineage.
    """
    table = _table(text, schema=LINEAGE_SCHEMA, subject=subject)
    table.pop(_MODELS, None)
    everywhere = tuple(entries)
    lineage: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, lines in table.items():
        if not isinstance(lines, dict):
            raise _format_error(subject, f"{name} must be a table", got=type(lines).__name__)
        lineage[name] = {}
        for entry, sources in lines.items():
            if not isinstance(sources, list) or not all(isinstance(one, str) for one in sources):
                raise _format_error(
                    subject, f"{name}, {entry} must list its sources", got=repr(sources)
                )
            for known in everywhere if entry == _EVERYWHERE else (entry,):
                lineage[name][known] = tuple(sources)
    return lineage


def lineage_models(text: str, *, subject: str) -> tuple[str, ...] | None:
    """Return the models that a lineage was recorded from; None where it does not name them.

    Raises:
        TraceFormatError: the text is no lineage.
    """
    models = _table(text, schema=LINEAGE_SCHEMA, subject=subject).get(_MODELS)
    if models is None:
        return None
    if not isinstance(models, list) or not all(isinstance(one, str) for one in models):
        raise _format_error(subject, "must list its models", got=repr(models))
    return tuple(models)


def _table(text: str, *, schema: str, subject: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TraceFormatError(subject, "must be TOML", expected="a file", got=error) from error
    found = table.pop("schema", None)
    if found != schema:
        raise TraceFormatError(
            subject, "must have this schema", expected=repr(schema), got=repr(found)
        )
    return table


def _format_error(subject: str, rule: str, *, got: object) -> TraceFormatError:
    return TraceFormatError(subject, rule, expected="what docs/audit.md shows", got=got)


def _line(entry: str, sources: Iterable[str]) -> str:
    return f"{_quoted(entry)} = [{', '.join(_quoted(source) for source in sources)}]"


def _quoted(text: str) -> str:
    # A basic string of TOML has the escapes of JSON.
    return json.dumps(text, ensure_ascii=True)
