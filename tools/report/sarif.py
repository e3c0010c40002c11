"""Rendering of a verdict as SARIF 2.1.0, which code scanning services show beside a line."""

import hashlib
from typing import Any

import msgspec

from tools.report.explanations import Explanation, explanations
from tools.sides.origin import project_version
from traces.schema.verdict import Cause, Kind, Verdict
from traces.text import phrases

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

Json = dict[str, Any]


def render_sarif(verdict: Verdict, *, strict: bool) -> str:
    """Return one run with a result for each cause, and a notification for each problem.

    Rules are the kinds of causes that occur, with their explanations. A result's fingerprint is
    made of what differs, not of its line, so that it stays the same when lines move.
    """
    kinds = sorted({cause.kind for cause in verdict.causes}, key=list(Kind).index)
    rules = [_rule(kind, explanations()[kind]) for kind in kinds]
    run: Json = {
        "tool": {
            "driver": {"name": "goldentrace", "version": project_version(), "rules": rules},
        },
        "columnKind": "unicodeCodePoints",
        "automationDetails": {"id": f"goldentrace/{verdict.target}/"},
        "invocations": [
            {
                "executionSuccessful": verdict.verdict != "error",
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": problem}} for problem in verdict.problems
                ],
            }
        ],
        "results": [
            _result(cause, rule=kinds.index(cause.kind), target=verdict.target, strict=strict)
            for cause in verdict.causes
        ],
        "properties": {
            "verdict": verdict.verdict,
            "base": verdict.base,
            "head": verdict.head,
            "summary": ". ".join(phrases.counts_lines(verdict)),
        },
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode() + "\n"


def _rule(kind: Kind, explained: Explanation) -> Json:
    return {
        "id": kind,
        "name": "".join(word.title() for word in kind.split("_")),
        "shortDescription": {"text": explained.title},
        "fullDescription": {"text": explained.meaning},
        "help": {"text": f"Usual changes: {explained.usual} Look at: {explained.look}"},
    }


def _result(cause: Cause, *, rule: int, target: str, strict: bool) -> Json:
    level = "error" if cause.fails(strict=strict) else "warning"
    identity = (target, cause.kind, cause.builder, cause.callee, cause.parameter, cause.where)
    result: Json = {
        "ruleId": cause.kind,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": "\n".join(phrases.detail_lines(cause))},
        "partialFingerprints": {
            "goldentraceCause/v1": hashlib.sha256(msgspec.json.encode(identity)).hexdigest()
        },
        "properties": {"level": cause.level, "scenarios": cause.scenarios},
    }
    if cause.location is not None:
        place = {
            "artifactLocation": {"uri": cause.location.file, "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": max(1, cause.location.line)},
        }
        result["locations"] = [{"physicalLocation": place}]
    return result
