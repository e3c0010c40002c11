"""Rendering of a verdict as workflow commands: annotations on the lines of a pull request."""

from traces.schema.verdict import Cause, Verdict
from traces.text import phrases


def render_github(verdict: Verdict, *, strict: bool) -> str:
    """Return one command for each cause and each problem, then the counts as a plain line.

    Differences of the interface are warnings unless they fail because of ``strict``.
    """
    commands = [_annotation(cause, strict=strict) for cause in verdict.causes]
    commands += [_command("error", "", "goldentrace", problem) for problem in verdict.problems]
    counts = ". ".join(phrases.counts_lines(verdict))
    summary = f"{verdict.verdict}: {phrases.sides_line(verdict)}. {counts}."
    return "\n".join([*commands, summary]) + "\n"


def _annotation(cause: Cause, *, strict: bool) -> str:
    severity = "error" if cause.fails(strict=strict) else "warning"
    location = cause.location
    place = "" if location is None else f"file={_property(location.file)},line={location.line},"
    return _command(severity, place, cause.kind, "\n".join(phrases.detail_lines(cause)))


def _command(severity: str, place: str, title: str, message: str) -> str:
    return f"::{severity} {place}title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
