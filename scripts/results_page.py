"""Write docs/results.md from docs/results.toml: `python scripts/results_page.py [--check]`.

Every result names the command that gives it, the machine, and the revision it was measured on.
`--check` writes nothing and exits with 1 when the page is not what the file gives.
"""

import argparse
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
SOURCE, PAGE = DOCS / "results.toml", DOCS / "results.md"
FIELDS = ("claim", "value", "command", "machine", "revision")
HEAD = """# Measured results

Generated from `docs/results.toml` by `python scripts/results_page.py`; do not edit. Each row gives
the command that reproduces the value. Machines are described below the tables.
"""


def render(text: str) -> str:
    """Return the page for the text of a results file.

    Raises:
        ValueError: a result lacks a field, has an unknown one, or names an unknown machine.
    """
    data = tomllib.loads(text)
    machines: dict[str, str] = data["machines"]
    topics: dict[str, list[dict[str, str]]] = {}
    for result in data["result"]:
        _require_complete(result, machines)
        topics.setdefault(result["topic"], []).append(result)
    parts = [HEAD]
    for topic, results in topics.items():
        rows = [[_cell(result, field) for field in FIELDS] for result in results]
        parts.append(f"## {topic}\n\n{_table(['result', *FIELDS[1:]], rows)}")
    rows = [[f"`{name}`", text] for name, text in machines.items()]
    parts.append(f"## Machines\n\n{_table(['name', 'is'], rows)}")
    return "\n".join(parts)


def _require_complete(result: dict[str, str], machines: dict[str, str]) -> None:
    wanted = {"topic", *FIELDS}
    if result.keys() != wanted:
        raise ValueError(f"result: fields; expected {sorted(wanted)}, got {sorted(result)}")
    if result["machine"] not in machines:
        got = result["machine"]
        raise ValueError(f"{result['claim']}: machine; expected one of {list(machines)}, got {got}")


def _cell(result: dict[str, str], field: str) -> str:
    text = result[field].replace("|", "\\|")
    return f"`{text}`" if field in ("command", "machine", "revision") else text


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    page = render(SOURCE.read_text(encoding="utf-8"))
    if not check:
        PAGE.write_text(page, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page:
        print(f"{PAGE}: stale; run python scripts/results_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
