"""Write the tables of docs/audit.md from the reviewed findings: `python scripts/audit_page.py`.

The tables lie below a marker. `--check` writes nothing and exits with 1 when they are stale.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from traces.audit.reviewed import FAULT, FindingReview, parse_reviews

ROOT = Path(__file__).resolve().parents[1]
PAGE, FOLDER = ROOT / "docs" / "audit.md", ROOT / "traces" / "baseline" / "sglang"
MARKER = "<!-- Below this line: python scripts/audit_page.py -->"


def render(page: str, reviews: Sequence[FindingReview]) -> str:
    """Return the page with its tables written anew.

    Raises:
        ValueError: the page has no marker.
    """
    head, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE.name}: must hold its marker; expected {MARKER!r}, got none")
    faults = [one for one in reviews if one.verdict == FAULT]
    others = [one for one in reviews if one.verdict != FAULT]
    parts = (
        f"{head}{MARKER}\n",
        "### Faults\n",
        _table(
            ["releases", "findings", "what is wrong", "seen", "line"],
            (_fault_row(rows) for rows in _by_fault(faults)),
        ),
        "### No faults\n",
        _table(
            ["releases", "finding", "decided", "why", "line"],
            (
                [_releases([one]), _findings([one]), one.verdict, one.reason, _code(one.line)]
                for one in others
            ),
        ),
    )
    return "\n".join(parts)


def read_reviews() -> list[FindingReview]:
    """Return the reviews of all files, in order of their names."""
    files = sorted(FOLDER.glob("*.toml"))
    return [
        one
        for file in files
        for one in parse_reviews(file.read_text(encoding="utf-8"), subject=file.name)
    ]


def _by_fault(reviews: Sequence[FindingReview]) -> Iterable[list[FindingReview]]:
    """Return the rows of each fault, in the order of their first ones."""
    faults: dict[str, list[FindingReview]] = {}
    for one in reviews:
        faults.setdefault(one.wrong, []).append(one)
    return faults.values()


def _fault_row(rows: Sequence[FindingReview]) -> list[str]:
    first = rows[0]
    return [_releases(rows), _findings(rows), first.wrong, first.evidence, _code(first.line)]


def _releases(rows: Sequence[FindingReview]) -> str:
    return ", ".join(sorted({release for one in rows for release in one.releases}))


def _findings(rows: Sequence[FindingReview]) -> str:
    names = dict.fromkeys(f"{one.name} " for one in rows if one.name)
    found = dict.fromkeys(f"`{one.kind}` {_code(one.subject)}" for one in rows)
    return "".join(names) + "<br>".join(found)


def _code(text: str) -> str:
    return f"`{text}`"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [
        head,
        ["---"] * len(head),
        *([cell.replace("|", "\\|") for cell in row] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    page = render(old, read_reviews())
    if not check:
        PAGE.write_text(page, encoding="utf-8")
    elif old != page:
        print(f"{PAGE}: stale; run python scripts/audit_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
