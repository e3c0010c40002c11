"""The one text form of a trace, in which it is compared, hashed, reviewed and committed.

UTF-8 JSON with LF, keys in schema order, one record a line inside lists, a newline at the end.
Numbers and strings are written by msgspec and by nothing else, so the bytes depend on the trace
alone: integers stay integers, floats take their shortest form, NaN and infinity are refused.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from traces.errors import GoldenWriteError, TraceFormatError
from traces.schema.model import SCHEMA, Recording, Sites, Trace
from traces.schema.record import Record
from traces.schema.transaction import Transaction

SUFFIX = ".json"
_OLDER_SCHEMAS = ("goldentrace.trace/1",)
SITES_SUFFIX = ".sites.json"

_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7}|\|{7})(?: |\r?$)", re.MULTILINE)
_BOM = "\ufeff"
_SCALARS = (type(None), bool, int, str)

_ParsedT = TypeVar("_ParsedT", Trace, Sites)


def render(trace: Trace) -> str:
    """Return the canonical text; raise TraceFormatError for NaN, infinity, types JSON lacks."""
    rule = "values must not nest too deep"
    for where, value in _open_values(trace):
        try:
            _require_plain(value, where)
        except RecursionError as error:
            raise TraceFormatError(where, rule, expected="a few levels", got="hundreds") from error
    return _text(trace)


def render_sites(sites: Sites) -> str:
    """Return the text of the file that stands beside a recorded trace."""
    return _text(sites)


def parse(text: str, *, subject: str = "trace") -> Trace:
    """Read a trace; only the layout of the text is free. ``subject`` names it in errors.

    A byte order mark and CRLF are accepted here; :func:`is_canonical` tells them apart.

    Raises:
        TraceFormatError: merge conflict, cut short, foreign or another schema, an unknown,
            missing or repeated key, a value of the wrong type.
    """
    body = text.removeprefix(_BOM)
    _refuse_conflict(body, subject)
    trace = parse_rendered(body, subject=subject)
    # A repeated key is dropped silently by the decoder, so the text it gives back differs.
    if render(trace) != body:
        _refuse_repeated_keys(body, subject)
    return trace


def parse_rendered(text: str, *, subject: str) -> Trace:
    """Read what :func:`render` wrote, which nobody can have edited since.

    Raises:
        TraceFormatError: cut short, foreign or another schema, a value of the wrong type.
    """
    trace = _decode(text, Trace, subject)
    if trace.schema != SCHEMA:
        raise _schema_error(subject, trace.schema)
    return trace


def parse_sites(text: str, *, subject: str = "sites") -> Sites:
    """Read what :func:`render_sites` wrote, or raise TraceFormatError."""
    return _decode(text, Sites, subject)


def plain_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a scenario's configuration with enum members and tuples made plain.

    Raises:
        TraceFormatError: a value has no canonical form, or a key is no text.
    """
    copied: dict[str, Any] = _plain(config)
    _require_plain(copied, "scenario.config")
    return copied


def is_canonical(raw: bytes, trace: Trace) -> bool:
    """Return whether ``raw`` is exactly the canonical form of ``trace``, byte for byte."""
    return raw == render(trace).encode()


def read_text(path: Path) -> str:
    """Read a UTF-8 file with its line ends as they are, or raise TraceFormatError."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise TraceFormatError(str(path), "must be UTF-8", expected="UTF-8", got=error) from error
    except OSError as error:
        got = error.strerror
        raise TraceFormatError(str(path), "must be readable", expected="a file", got=got) from error


def read_trace(path: Path) -> Trace:
    """Read a trace file; raise TraceFormatError as :func:`read_text` and :func:`parse` do."""
    return parse(read_text(path), subject=str(path))


def read_recording(path: Path) -> Recording:
    """Read a trace file with the sites beside it, if any; raise as :func:`read_trace` does."""
    sites_path = sites_path_of(path)
    sites = None
    if sites_path.exists():
        sites = parse_sites(read_text(sites_path), subject=str(sites_path))
    return Recording(trace=read_trace(path), sites=sites)


def sites_path_of(path: Path) -> Path:
    """Return where the sites of the trace at ``path`` are kept: ``<name>.sites.json``."""
    return path.with_name(path.name.removesuffix(SUFFIX) + SITES_SUFFIX)


def write_atomic(path: Path, text: str) -> None:
    """Replace or create a file in one step: a reader sees the old bytes or the new ones.

    Raises:
        GoldenWriteError: the directory cannot be written; nothing has changed.
    """
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Transaction() as transaction:
            transaction.write(target, text.encode())
            transaction.commit()
    except OSError as error:
        raise golden_write_error(path, error) from error


def golden_write_error(path: Path, error: OSError) -> GoldenWriteError:
    """Return the error for a file that could not be written."""
    rule, expected = "must be writable", "a writable directory"
    return GoldenWriteError(str(path), rule, expected=expected, got=error.strerror)


def _text(record: Record) -> str:
    fields = msgspec.structs.fields(record)
    parts = (_field(field.encode_name, getattr(record, field.name)) for field in fields)
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _field(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return f'"{name}":{_block("[", map(_line, value), "]")}'
    if isinstance(value, dict):
        entries = (f"{_line(key)}:{_line(item)}" for key, item in value.items())
        return f'"{name}":{_block("{", entries, "}")}'
    return f'"{name}":{_line(value)}'


def _block(opening: str, lines: Iterable[str], closing: str) -> str:
    joined = ",\n".join(lines)
    return f"{opening}\n{joined}\n{closing}" if joined else opening + closing


def _line(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        rule = "must be writable as JSON"
        raise TraceFormatError(kind, rule, expected="text", got=error) from error


def _open_values(trace: Trace) -> Iterator[tuple[str, Any]]:
    """Yield every value whose type the schema leaves open, with its place."""
    yield "scenario.config", trace.scenario.config
    for call in trace.calls:
        yield f"{call.call}.returns", call.returns
        for argument in call.arguments:
            yield f"{call.call}.{argument.name}", argument.value


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, Enum):
        return _plain(value.value)
    if type(value) is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if type(value) in (list, tuple) else value


def _require_plain(value: object, where: str) -> None:
    if type(value) in _SCALARS:
        return
    if type(value) is float:
        if not math.isfinite(value):
            raise TraceFormatError(where, "floats must be finite", expected="a number", got=value)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TraceFormatError(where, "keys must be text", expected="str", got=repr(key))
            _require_plain(item, f"{where}.{key}")
    elif type(value) is list or type(value) is tuple:
        for number, item in enumerate(value):
            _require_plain(item, f"{where}[{number}]")
    else:
        kind = type(value).__name__
        raise TraceFormatError(where, "values must be plain JSON", expected="JSON", got=kind)


def _decode(text: str, kind: type[_ParsedT], subject: str) -> _ParsedT:
    try:
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError as error:
            if kind is Trace:
                _refuse_foreign(text, subject)
            rule, expected = "must fit the schema", f"a valid {kind.__name__}"
            raise TraceFormatError(subject, rule, expected=expected, got=error) from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        rule = "must be one complete JSON document"
        raise TraceFormatError(subject, rule, expected="JSON", got=error) from error


def _refuse_foreign(text: str, subject: str) -> None:
    """Raise for another schema, before the first wrong field is named."""
    loose = msgspec.json.decode(text)
    found = loose.get("schema", "no schema") if isinstance(loose, dict) else type(loose).__name__
    if found != SCHEMA:
        raise _schema_error(subject, found)


def _schema_error(subject: str, found: object) -> TraceFormatError:
    """Return the error for another schema; what an older version wrote can be written again."""
    if found not in _OLDER_SCHEMAS:
        return TraceFormatError(subject, "schema must be known", expected=SCHEMA, got=found)
    renewal = "`goldentrace regenerate --reason TEXT` or `pytest --golden-update`"
    rule, expected = "schema must not be an older one", f"{SCHEMA}, as {renewal} writes"
    return TraceFormatError(subject, rule, expected=expected, got=found)


def _refuse_conflict(text: str, subject: str) -> None:
    found = _CONFLICT.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        rule, got = "must not hold a merge conflict", f"{found.group().strip()} on line {line}"
        raise TraceFormatError(subject, rule, expected="a trace", got=got)


def _refuse_repeated_keys(text: str, subject: str) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        by_key = dict(pairs)
        if len(by_key) != len(pairs):
            ((repeated, _),) = Counter(name for name, _ in pairs).most_common(1)
            rule, got = "keys must not repeat", f"{repeated!r} again"
            raise TraceFormatError(subject, rule, expected="one of each", got=got)
        return by_key

    json.loads(text, object_pairs_hook=unique)
