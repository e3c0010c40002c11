"""Renew the list of modules in docs/structure.md: `python scripts/structure_page.py [--check]`.

The text above the marker is written by hand; below it stands one line for every module, taken from
the first line of its docstring. `--check` writes nothing and exits with 1 when the list is stale.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "structure.md"
MARKER = "<!-- Below this line: python scripts/structure_page.py -->\n"
PACKAGES = ("assembler", "traces", "tools")


def render(text: str, root: Path) -> str:
    """Return the page with the list of modules under ``root``.

    Raises:
        ValueError: the page has no marker.
    """
    head, marker, _ = text.partition(MARKER)
    if not marker:
        raise ValueError(f"docs/structure.md: marker; expected {MARKER.strip()}, got none")
    return (
        head + marker + "".join(line for name in PACKAGES for line in _package(root / name, root))
    )


def _package(folder: Path, root: Path) -> Iterator[str]:
    name = folder.relative_to(root).as_posix()
    yield f"\n### {name}/\n\n{_first_line(folder / '__init__.py')}\n\n"
    modules = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
    if modules:
        yield "| module | holds |\n| --- | --- |\n"
    for file in modules:
        yield f"| `{file.name}` | {_first_line(file)} |\n"
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            yield from _package(inner, root)


def _first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "`").replace("|", "\\|")


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    new = render(old, ROOT)
    if not check:
        PAGE.write_text(new, encoding="utf-8")
    elif old != new:
        print(f"{PAGE}: stale; run python scripts/structure_page.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
