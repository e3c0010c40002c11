"""Measure the structure of the code: `python scripts/house_figures.py [--compare REV] [--check]`.

Definitions:

* A room is a module or a sub-package that lies directly in a folder. `__init__` is no room.
* An arrow goes from room A to room B of one folder if something inside A imports something inside
  B. Imports in functions and under `TYPE_CHECKING` count. Imports that go through the `__init__`
  of the folder, and imports by string, give no arrow. `from a import b` imports module `a.b` if
  there is one, and module `a` otherwise.
* A circle is a strongly connected component of more than one member. A folder circle is a circle
  of rooms that contains a sub-package.
* The floors of a folder are the rooms on its longest chain of arrows; a circle is one floor.
* Parameters exclude `self`, `cls`, `*args` and `**kwargs`, as in ruff's PLR0913.
* A shebang, or a comment that contains only `noqa`, `type: ignore` or `pragma`, does not count.
* A family switch is an `isinstance` or a class pattern of a `case` whose class name ends in Pool,
  PoolHost or Allocator, or any mention of a member of `PoolFamily`.
* Tests are counted as `test_*` functions in the text, before parametrization.
* Places of a commit are the files that it changes outside of tests and goldens.

The review of revision 05e535c counted the `__init__` of assembler and of traces as a room.
"""

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.source_modules import (
    PACKAGES,
    Graph,
    Module,
    Modules,
    all_functions,
    below,
    circles,
    floor_count,
    folders_of,
    function_lines,
    import_graph,
    label,
    parameter_count,
    read_modules,
    read_packages,
    room_graph,
)

FAMILY_SCOPES = ("assembler", "traces.targets")
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
# Signatures of the field, with its docstrings and defaults.
PUBLISHED = re.compile(
    r"(build_(kv_only|hybrid_swa|hybrid_mamba|shared_anchor)_stack|attach_hybrid_\w+"
    r"|HybridCacheController\.__init__)$"
)
QUESTION = re.compile(r"\s*(What|Who|Whether|How|Which|Where|When) ")
FAMILY_CLASS = re.compile(r"(Pool|PoolHost|Allocator)$")
DIRECTIVE = re.compile(
    r"noqa(:\s*[A-Z]+\d+([,\s]+[A-Z]+\d+)*)?"
    r"|type:\s*ignore(\[[^]]*\])?|pragma:\s*no cover|(mypy|ruff):.*",
    re.IGNORECASE,
)
LAYOUT_TOKENS = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT),
    *(tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER),
}
NOT_PLACES = ("tests/", "traces/golden/")

Number = int | float
Figures = dict[str, Number | dict[str, Number]]
Lists = dict[str, list[str]]


def folder_shape(graph: Graph, folder: str) -> dict[str, Number]:
    """Return rooms, floors, arrows and circles of a folder."""
    rooms = room_graph(graph, folder)
    return {
        "rooms": len(rooms),
        "floors": floor_count(rooms),
        "arrows": sum(map(len, rooms.values())),
        "circles": len(circles(rooms)),
    }


# Lists of places


def faults(modules: Modules) -> Lists:
    """Return the places that break a rule of the house, by rule; `--check` wants none."""
    graph, folders = import_graph(modules), folders_of(modules)
    classes: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for node in module.nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(module.name)
    return {
        "public class names in several modules": [
            f"{name}: {', '.join(sorted(where))}"
            for name, where in sorted(classes.items())
            if len(where) > 1
        ],
        "module circles": [" <-> ".join(circle) for circle in circles(graph)],
        "folder circles": [
            f"{folder}: {' <-> '.join(circle)}"
            for folder in folders
            for circle in circles(room_graph(graph, folder))
            if any(f"{folder}.{room}" in folders for room in circle)
        ],
        f"functions over {MAX_FUNCTION_LINES} lines": ranked(
            (function_lines(function), name)
            for name, function in all_functions(modules)
            if function_lines(function) > MAX_FUNCTION_LINES and not PUBLISHED.search(name)
        ),
        "first docstring lines with a question word": [
            f"{owner}: {str(text.value).strip().splitlines()[0]}"
            for module in modules.values()
            for owner, text in module.docstrings
            if QUESTION.match(str(text.value))
        ],
    }


def ranked(found: Iterable[tuple[int, str]]) -> list[str]:
    """Return one line per entry, the largest number first."""
    return [f"{number} {where}" for number, where in sorted(found, key=lambda x: (-x[0], x[1]))]


def forwarded_keywords(module: Module) -> int:
    """Return the number of keywords `x=x` of calls."""
    return sum(
        isinstance(node, ast.keyword)
        and isinstance(node.value, ast.Name)
        and node.arg == node.value.id
        for node in module.nodes
    )


def record_classes(modules: Iterable[Module]) -> set[str]:
    """Return the names of dataclasses, typed dictionaries and named tuples."""
    return {
        node.name
        for module in modules
        for node in module.nodes
        if isinstance(node, ast.ClassDef)
        and (
            any("dataclass" in ast.unparse(one) for one in node.decorator_list)
            or any(ast.unparse(base) in ("TypedDict", "NamedTuple") for base in node.bases)
        )
    }


def handed_on_parameters(module: Module, records: set[str]) -> int:
    """Return how many parameters functions hand on to another function as a keyword `x=x`.

    Arguments of errors and of records are left out: nothing receives them under the same name.
    """
    handed_on: set[ast.keyword] = set()
    for _, function in module.functions:
        arguments = function.args
        own = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and not is_record_or_error(node.func, records):
                handed_on |= {
                    one
                    for one in node.keywords
                    if isinstance(one.value, ast.Name) and one.arg == one.value.id in own
                }
    return len(handed_on)


def is_record_or_error(callee: ast.expr, records: set[str]) -> bool:
    """Return whether a call makes a record or an error."""
    name = getattr(callee, "id", getattr(callee, "attr", ""))
    return name in records or name.endswith("Error")


def family_switch(node: ast.AST) -> str | None:
    """Return the kind of family switch that a node is, if it is one."""
    match node:
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]) if names_family(kinds):
            return f"isinstance:{node.lineno}"
        case ast.match_case(pattern=pattern):
            classes = [x.cls for x in ast.walk(pattern) if isinstance(x, ast.MatchClass)]
            return f"case:{pattern.lineno}" if any(map(names_family, classes)) else None
        case ast.Attribute(value=ast.Name(id="PoolFamily") | ast.Attribute(attr="PoolFamily")):
            return f"PoolFamily:{node.lineno}"
        case _:
            return None


def names_family(node: ast.AST) -> bool:
    """Return whether an expression names a class of a pool or an allocator."""
    names = (getattr(leaf, "id", getattr(leaf, "attr", "")) for leaf in ast.walk(node))
    return any(FAMILY_CLASS.search(name) for name in names)


# Comments


def comments_and_code(module: Module) -> tuple[int, int]:
    """Return the number of comments and of code lines of a module."""
    comments = 0
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT:
            comments += is_comment(token.string, token.start[0])
        elif token.type not in LAYOUT_TOKENS:
            code.update(range(token.start[0], token.end[0] + 1))
    for _, node in module.docstrings:
        code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = module.source.split("\n")
    return comments, sum(bool(lines[number - 1].strip()) for number in code)


def is_comment(text: str, line: int) -> bool:
    """Return whether a comment token says something to a reader."""
    if line == 1 and text.startswith("#!"):
        return False
    return any(
        part.strip() and not DIRECTIVE.fullmatch(part.strip()) for part in text.split("#")[1:]
    )


def comment_rate(modules: Modules) -> float:
    """Return the comments per hundred code lines."""
    comments, code = map(sum, zip(*map(comments_and_code, modules.values()), strict=True))
    return round(100 * comments / code, 1) if code else 0.0


# Figures of a tree


def size(modules: Modules) -> dict[str, Number]:
    """Return files, lines and non-blank lines."""
    lines = [line for module in modules.values() for line in module.source.splitlines()]
    blank = sum(not line.strip() for line in lines)
    return {"files": len(modules), "lines": len(lines), "non-blank": len(lines) - blank}


def measure(root: Path) -> tuple[Figures, Lists]:
    """Return all figures of a tree, and the places behind them."""
    modules, tests = read_packages(root), read_modules(root, "tests")
    graph, figures = import_graph(modules), Figures()
    shallow = [folder for folder in folders_of(modules) if folder.count(".") <= 1]
    shallow.sort(key=lambda folder: (PACKAGES.index(folder.split(".")[0]), folder))
    for folder in shallow:
        figures[f"{label(folder)}"] = folder_shape(graph, folder)
    figures["all packages"] = size(modules)
    for package in PACKAGES:
        figures[f"{label(package)} size"] = size(below(modules, package))
    test_count = sum(function.name.startswith("test_") for _, function in all_functions(tests))
    figures["tests/ size"] = size(tests) | {"tests": test_count}
    lists = faults(modules)
    lists[f"functions over {MAX_PARAMETERS} parameters"] = ranked(
        (parameter_count(function), name)
        for name, function in all_functions(modules)
        if parameter_count(function) > MAX_PARAMETERS
    )
    for scope in FAMILY_SCOPES:
        lists[f"family switches, {label(scope)}"] = [
            f"{module.name} {kind}"
            for module in below(modules, scope).values()
            for kind in filter(None, map(family_switch, module.nodes))
        ]
    figures |= {name: len(places) for name, places in lists.items()}
    forwarding = below(modules, "assembler").values()
    figures["keywords forwarded, assembler/"] = sum(map(forwarded_keywords, forwarding))
    records = record_classes(forwarding)
    figures["parameters handed on by keyword, assembler/"] = sum(
        handed_on_parameters(module, records) for module in forwarding
    )
    texts = [str(text.value) for module in modules.values() for _, text in module.docstrings]
    words = sum(len(text.split()) for text in texts)
    rate = round(words / len(texts), 1)
    figures["docstrings"] = {"number": len(texts), "words": words, "words per docstring": rate}
    for folder in (folder for folder in shallow if "." not in folder or "assembler" in folder):
        rate = comment_rate(below(modules, folder))
        figures[f"comments per 100 code lines, {label(folder)}"] = rate
    return figures, lists


# Revisions


def git(root: Path, *arguments: str) -> bytes:
    """Run git in a tree and return its output; a failure ends the script with git's message."""
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


@contextmanager
def revision_tree(root: Path, rev: str) -> Iterator[Path]:
    """Provide the tree of a revision in a temporary directory."""
    with tempfile.TemporaryDirectory() as folder:
        archive = io.BytesIO(git(root, "archive", "--format=tar", rev))
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)


def changed_lines(root: Path, rev: str) -> dict[str, Number]:
    """Count the removed and added lines of tracked Python files since a revision."""
    patterns = [f":(glob){package}/**/*.py" for package in PACKAGES]
    output = git(root, "diff", "--numstat", "-M", "-l0", rev, "--", *patterns).decode()
    rows = [line.split("\t") for line in output.splitlines()]
    added, removed = (sum(int(row[column]) for row in rows) for column in (0, 1))
    return {"removed": removed, "added": added, "removed minus added": removed - added}


def places(root: Path, revs: str) -> list[str]:
    """Return the files that a commit or a range A..B changes, tests and goldens left out."""
    command = ["diff", revs] if ".." in revs else ["show", "--format=", revs]
    files = git(root, *command, "--name-only", "-M").decode().splitlines()
    return sorted(file for file in files if not file.startswith(NOT_PLACES))


# Output


def table(columns: dict[str, Figures]) -> str:
    """Return a Markdown table with one column of figures per tree."""
    names = dict.fromkeys(name for figures in columns.values() for name in figures)
    lines = [f"| figure | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        values = [figures.get(name, "-") for figures in columns.values()]
        parts = next((f": {' / '.join(value)}" for value in values if isinstance(value, dict)), "")
        cells = (
            " / ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
            for value in values
        )
        lines.append(f"| {name}{parts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def listing(lists: Lists) -> str:
    """Return the places behind the figures."""
    blocks = ("\n".join([f"{name}:", *(f"  {one}" for one in lists[name])]) for name in lists)
    return "\n\n".join(blocks)


def check(root: Path) -> int:
    """Print the places that break a rule; return 1 if there are any."""
    found = faults(read_packages(root))
    broken = {rule: where for rule, where in found.items() if where}
    print(listing(broken) or "no rule is broken")
    return 1 if broken else 0


def main(argv: list[str] | None = None) -> int:
    """Print what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the structure of the code.")
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--root", type=Path, default=root, help="root of the repository")
    parser.add_argument("--compare", metavar="REV", help="print this revision beside the worktree")
    parser.add_argument("--check", action="store_true", help="exit 1 if a rule is broken")
    parser.add_argument("--places", metavar="REV", help="print files that a commit or A..B changes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="list the places behind figures")
    options = parser.parse_args(argv)
    if options.check:
        return check(options.root)
    if options.places:
        found = places(options.root, options.places)
        print("\n".join([f"{len(found)} places", *found]))
        return 0
    figures, lists = measure(options.root)
    columns = {"worktree": figures}
    if options.compare:
        with revision_tree(options.root, options.compare) as tree:
            columns = {options.compare: measure(tree)[0], **columns}
        figures["lines changed"] = changed_lines(options.root, options.compare)
    print(json.dumps(columns, indent=2) if options.json else table(columns))
    if options.verbose:
        print(f"\n{listing(lists)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
