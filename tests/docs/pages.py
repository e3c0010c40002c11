"""Pages of the documentation, done as they say: files written, commands run, output compared."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_BLOCK = re.compile(
    r"^```(?P<kind>\w*)(?: title=\"(?P<title>.*?)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"(?<!`)`(goldentrace(?: [^`\n]+)?)`(?!`)")
_PROGRAMS = {
    "pytest": f"{sys.executable} -m pytest -p no:cacheprovider",
    "python": sys.executable,
    "goldentrace": f"{sys.executable} -m tools.cli",
}
_PROGRAM = re.compile(r"^(pytest|python|goldentrace)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: a file to write when it has a title, else a console when it has prompts."""

    kind: str
    title: str
    text: str

    @property
    def is_console(self):
        return self.kind == "console" and not self.title


@dataclass(frozen=True)
class Step:
    """A command of a page, and the lines that it must print."""

    command: str
    expected: tuple[str, ...]


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(one["kind"], one["title"] or "", one["text"]) for one in _BLOCK.finditer(text)]


def steps(block: Block) -> Iterator[Step]:
    """Yield the commands behind prompts; what follows one, up to the next, is its output."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *expected = part.splitlines()
        yield Step(command, tuple(line for line in expected if line.strip()))


def listed_commands(text: str) -> list[str]:
    """Return the calls of ``goldentrace`` in a page: in blocks and between backquotes."""
    lines = [line for one in blocks(text) if not one.title for line in one.text.splitlines()]
    found = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in lines]
    found = [line.partition(" #")[0].strip() for line in found]
    prose = _BLOCK.sub("", text)
    return [line for line in (*found, *_INLINE.findall(prose)) if line.startswith("goldentrace ")]


def run_command(
    command: str, *, folder: Path, source: Path, columns: int, cache: Path | None
) -> str:
    """Run a command with this interpreter in a folder, and return what it prints.

    ``source`` is the checkout whose packages are imported; ``cache`` holds the kept runs, which
    change what a verdict says: None for those of the user.
    """
    words = _PROGRAM.sub(lambda found: _PROGRAMS[found.group()], command)
    # A worker of pytest-xdist says by a variable that it is one; a page's own pytest is none.
    environment = {
        name: text
        for name, text in os.environ.items()
        if name != "CI" and not name.startswith("PYTEST_")
    }
    environment |= {
        "PYTHONPATH": f"{source}{os.pathsep}{folder}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": str(columns),
        "NO_COLOR": "1",
    }
    if cache is not None:
        environment["GOLDENTRACE_CACHE"] = str(cache)
    done = subprocess.run(
        words, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def run_page(
    text: str, *, folder: Path, source: Path, columns: int = 80, cache: Path | None = None
) -> list[str]:
    """Do what a page says in a folder; return each expected line that was not printed."""
    missing = []
    for block in blocks(text):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if block.title == "pyproject.toml":
                install(folder)
        elif block.is_console:
            for step in steps(block):
                output = run_command(
                    step.command, folder=folder, source=source, columns=columns, cache=cache
                )
                lost = [line for line in step.expected if line not in output]
                missing += [f"$ {step.command}\n{line}\n--- printed:\n{output}" for line in lost]
    return missing


def install(folder: Path) -> None:
    """Do what pip does with the entry points of a project."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = folder / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = project.get("entry-points", {})
    lines = [
        line
        for group, names in points.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
