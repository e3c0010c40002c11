"""Measure the structure of the code and print the figures.

One script measures both sides of a refactor, so the definitions cannot differ between them:

    python scripts/house_figures.py [--rev REV] [--root DIR] [--json] [--verbose]
    python scripts/house_figures.py --compare REV

Definitions:

* A room is a module or a sub-package that lies directly in a folder. `__init__` is no room.
* An arrow goes from room A to room B of one folder if something inside A imports something inside
  B. Imports in functions and under `TYPE_CHECKING` count. Imports that go through the `__init__`
  of the folder, and imports by string, give no arrow. `from a import b` imports module `a.b` if
  there is one, and module `a` otherwise.
* The floors of a folder are the rooms on its longest chain of arrows, where a circle of rooms is
  one floor. The chain is the same number with every room of a circle counted.
* A circle is a strongly connected component of more than one member.
* A folder circle is counted in two ways. "by rooms" sums the circles of rooms, over every folder,
  that contain a sub-package: a parent folder and its sub-package cannot form one. "by directories"
  takes each directory with its own modules as one member: a parent and its sub-package can.
* Parameters exclude `self`, `cls`, `*args` and `**kwargs`, as in ruff's PLR0913.
* A shebang, or a comment that contains only `noqa`, `type: ignore` or `pragma`, does not count.
* A family switch is an `isinstance` or a class pattern of a `case` whose class name ends in Pool,
  PoolHost or Allocator, or any mention of a member of `PoolFamily`.
* Tests are counted as `test_*` functions in the text, before parametrization.
* A private import names something that starts with one underscore and is defined in another
  module. A private module may be imported from inside the folder it lies in.

The review of revision 05e535c used other definitions in four places. It counted the `__init__` of
assembler and of traces as a room (17 rooms and 77 arrows, 30 rooms and 98 arrows). Its floors are
closer to the chain. Its repeated class names include type aliases and private names. Its forwarded
keywords are those of nine files.
"""

import argparse
import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("assembler", "traces", "tools")
TESTS = "tests"
FAMILY_SCOPES = ("assembler", "traces.targets")
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
QUESTION_WORDS = ("What", "Who", "Whether", "How", "Which", "Where", "When")

FAMILY_CLASS = re.compile(r"(Pool|PoolHost|Allocator)$")
DIRECTIVE = re.compile(
    r"noqa(:\s*[A-Z]+\d+([,\s]+[A-Z]+\d+)*)?"
    r"|type:\s*ignore(\[[^]]*\])?|pragma:\s*no cover|(mypy|ruff):.*",
    re.IGNORECASE,
)
LAYOUT_TOKENS = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]
Number = int | float
Figures = dict[str, Number | dict[str, Number]]
Lists = dict[str, list[str]]


@dataclass(frozen=True)
class Module:
    """A parsed source file with its dotted name."""

    name: str
    is_package: bool
    source: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """Return the dotted name of the directory that contains the file."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def lines(self) -> list[str]:
        """Return the lines of the file."""
        return self.source.splitlines()


Modules = dict[str, Module]


def read_modules(root: Path, top: str) -> Modules:
    """Parse every Python file below one top folder of a tree."""
    modules: Modules = {}
    for path in sorted((root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text(encoding="utf-8")
        modules[name] = Module(name, is_package, source, ast.parse(source, str(path)))
    return modules


def inside(name: str, folder: str) -> bool:
    """Return whether a dotted name is a folder or lies below it."""
    return name == folder or name.startswith(folder + ".")


def folders_of(modules: Modules) -> list[str]:
    """Return every directory that contains one of the modules at any depth."""
    found = set()
    for module in modules.values():
        parts = module.folder.split(".")
        found |= {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return sorted(found)


# Imports


def imported_names(module: Module) -> Iterator[tuple[str, str | None]]:
    """Yield each imported module name with the name that is taken from it, if any."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.folder.split(".")
                parents = parts[: len(parts) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from ((base, alias.name) for alias in node.names)


def resolve(modules: Modules, base: str, name: str | None) -> str | None:
    """Return the module that an import refers to, or None if it is foreign."""
    candidate = f"{base}.{name}" if name else base
    while candidate:
        if candidate in modules:
            return candidate
        candidate = candidate.rpartition(".")[0]
    return None


def import_graph(modules: Modules) -> Graph:
    """Return the modules that each module imports."""
    graph: Graph = {}
    for module in modules.values():
        targets = {resolve(modules, base, name) for base, name in imported_names(module)}
        graph[module.name] = {target for target in targets if target} - {module.name}
    return graph


def private_imports(modules: Modules) -> list[str]:
    """Return every import of a private name that another module owns."""
    found = []
    for module in modules.values():
        for base, name in imported_names(module):
            if resolve(modules, base, name) is None:
                continue
            full = f"{base}.{name}" if name else base
            for part in private_parts(full):
                owner = part.rpartition(".")[0]
                is_module = part in modules or any(inside(other, part) for other in modules)
                if not (is_module and inside(module.name, owner)):
                    found.append(f"{module.name}: {full}")
                    break
    return found


def private_parts(full: str) -> list[str]:
    """Return the prefixes of a dotted name whose last part is private."""
    parts = full.split(".")
    return [
        ".".join(parts[: index + 1])
        for index, part in enumerate(parts)
        if part.startswith("_") and not part.startswith("__")
    ]


# Graphs


def contract(graph: Graph, group: Callable[[str], str | None]) -> Graph:
    """Return the graph between groups of members; a member of no group is left out."""
    groups: Graph = defaultdict(set)
    for source, targets in graph.items():
        if (start := group(source)) is None:
            continue
        ends = {group(target) for target in targets}
        groups[start] |= {end for end in ends if end is not None and end != start}
    return dict(groups)


def room_graph(graph: Graph, folder: str) -> Graph:
    """Return the arrows between the rooms of a folder."""

    def room(name: str) -> str | None:
        if not name.startswith(folder + "."):
            return None
        return name[len(folder) + 1 :].partition(".")[0]

    return contract(graph, room)


def components(graph: Graph) -> dict[str, frozenset[str]]:
    """Return the strongly connected component of each member."""
    reach = {start: reachable(graph, start) for start in graph}
    return {
        start: frozenset({start} | {end for end in reach[start] if start in reach[end]})
        for start in graph
    }


def reachable(graph: Graph, start: str) -> set[str]:
    """Return the members that a chain of arrows leads to."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def circles(graph: Graph) -> list[list[str]]:
    """Return the components of more than one member."""
    return sorted(sorted(part) for part in set(components(graph).values()) if len(part) > 1)


def longest_chain(graph: Graph, weight: Callable[[frozenset[str]], int]) -> int:
    """Return the largest sum of weights on a chain of components."""
    part_of = components(graph)
    heights: dict[frozenset[str], int] = {}

    def height(part: frozenset[str]) -> int:
        if part not in heights:
            below = {part_of[target] for member in part for target in graph[member]} - {part}
            heights[part] = weight(part) + max(map(height, below), default=0)
        return heights[part]

    return max(map(height, part_of.values()), default=0)


def folder_shape(graph: Graph, folder: str) -> dict[str, Number]:
    """Return rooms, floors, chain, arrows and circles of a folder."""
    rooms = room_graph(graph, folder)
    return {
        "rooms": len(rooms),
        "floors": longest_chain(rooms, lambda _: 1),
        "chain": longest_chain(rooms, len),
        "arrows": sum(map(len, rooms.values())),
        "circles": len(circles(rooms)),
    }


def circle_lists(modules: Modules, graph: Graph) -> Lists:
    """Return the circles of modules and of folders."""
    folders = folders_of(modules)
    by_rooms = [
        f"{folder}: {' <-> '.join(circle)}"
        for folder in folders
        for circle in circles(room_graph(graph, folder))
        if any(f"{folder}.{room}" in folders for room in circle)
    ]
    directories = contract(graph, lambda name: modules[name].folder)
    return {
        "module circles": [" <-> ".join(circle) for circle in circles(graph)],
        "folder circles by rooms": by_rooms,
        "folder circles by directories": [" <-> ".join(circle) for circle in circles(directories)],
    }


# Functions, classes and calls


def functions(module: Module) -> Iterator[Function]:
    """Yield every function and method of a module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameter_count(function: Function) -> int:
    """Return the number of parameters without self and cls."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    if named and named[0].arg in {"self", "cls"}:
        named = named[1:]
    return len(named) + len(arguments.kwonlyargs)


def function_lists(modules: Modules) -> Lists:
    """Return the functions that are too long and those with too many parameters."""
    long, wide = [], []
    for module in modules.values():
        for function in functions(module):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            count = parameter_count(function)
            where = f"{module.name}.{function.name}:{function.lineno}"
            if lines > MAX_FUNCTION_LINES:
                long.append((lines, where))
            if count > MAX_PARAMETERS:
                wide.append((count, where))
    return {
        f"functions over {MAX_FUNCTION_LINES} lines": ranked(long),
        f"functions over {MAX_PARAMETERS} parameters": ranked(wide),
    }


def ranked(found: list[tuple[int, str]]) -> list[str]:
    """Return one line per entry, the largest number first."""
    return [f"{number} {where}" for number, where in sorted(found, key=lambda x: (-x[0], x[1]))]


def is_type_alias(node: ast.AST) -> bool:
    """Return whether a statement is an assignment annotated as a type alias."""
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias")


def repeated_names(modules: Modules, wanted: Callable[[ast.AST], bool]) -> list[str]:
    """Return the public names of some definitions that more than one module contains."""
    owners: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for node in filter(wanted, ast.walk(module.tree)):
            name = node.name if isinstance(node, ast.ClassDef) else ""
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
            if name and not name.startswith("_"):
                owners[name].add(module.name)
    return [
        f"{name}: {', '.join(sorted(where))}"
        for name, where in sorted(owners.items())
        if len(where) > 1
    ]


def repeated_classes(modules: Modules) -> Lists:
    """Return the repeated names of classes, and those of classes and type aliases."""

    def is_class(node: ast.AST) -> bool:
        return isinstance(node, ast.ClassDef)

    def is_type(node: ast.AST) -> bool:
        return is_class(node) or is_type_alias(node)

    return {
        "public class names in several modules": repeated_names(modules, is_class),
        "the same with type aliases": repeated_names(modules, is_type),
    }


def forwarded_keywords(modules: Modules) -> list[str]:
    """Return the keywords `x=x` of calls, one line per module."""
    found = []
    for module in modules.values():
        count = sum(
            isinstance(node, ast.keyword)
            and isinstance(node.value, ast.Name)
            and node.arg == node.value.id
            for node in ast.walk(module.tree)
        )
        if count:
            found.append((count, module.name))
    return ranked(found)


def names_family(node: ast.AST) -> bool:
    """Return whether an expression names a class of a pool or an allocator."""
    names = (
        leaf.id if isinstance(leaf, ast.Name) else leaf.attr
        for leaf in ast.walk(node)
        if isinstance(leaf, ast.Name | ast.Attribute)
    )
    return any(FAMILY_CLASS.search(name) for name in names)


def family_switch(node: ast.AST) -> str | None:
    """Return the kind of family switch that a node is, if it is one."""
    match node:
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]) if names_family(kinds):
            return "isinstance"
        case ast.match_case(pattern=pattern):
            classes = [x.cls for x in ast.walk(pattern) if isinstance(x, ast.MatchClass)]
            return "case" if any(map(names_family, classes)) else None
        case ast.Attribute(value=ast.Name(id="PoolFamily") | ast.Attribute(attr="PoolFamily")):
            return "PoolFamily"
        case _:
            return None


def family_switches(modules: Modules) -> tuple[dict[str, Number], list[str]]:
    """Count the family switches of some modules by kind, and return one line per place."""
    counts: dict[str, Number] = {"isinstance": 0, "case": 0, "PoolFamily": 0}
    places = []
    for module in modules.values():
        for node in ast.walk(module.tree):
            if kind := family_switch(node):
                counts[kind] += 1
                subject = node.pattern if isinstance(node, ast.match_case) else node
                places.append(f"{module.name}:{getattr(subject, 'lineno', 0)} {kind}")
    return counts, places


# Prose


def docstring_nodes(module: Module) -> Iterator[ast.Constant]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str()) as text), *_]:
                yield text
            case _:
                pass


def docstring_figures(modules: Modules) -> Figures:
    """Count docstrings, their words, and first lines that begin with a question word."""
    texts = [str(node.value) for module in modules.values() for node in docstring_nodes(module)]
    questions: dict[str, Number] = {
        word: sum(text.lstrip().startswith(word + " ") for text in texts) for word in QUESTION_WORDS
    }
    return {
        "docstrings": len(texts),
        "docstring words": sum(len(text.split()) for text in texts),
        "first docstring lines with a question word": sum(questions.values()),
        "first docstring lines by question word": questions,
    }


def comments_and_code(module: Module) -> tuple[int, int]:
    """Return the number of comments and of code lines of a module."""
    comments = 0
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT:
            comments += is_comment(token.string, token.start[0])
        elif token.type not in LAYOUT_TOKENS:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in docstring_nodes(module):
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
    pairs = [comments_and_code(module) for module in modules.values()]
    code = sum(pair[1] for pair in pairs)
    return round(100 * sum(pair[0] for pair in pairs) / code, 1) if code else 0.0


# Figures of a tree


def size(modules: Modules) -> dict[str, Number]:
    """Return files, lines and non-blank lines."""
    lines = [line for module in modules.values() for line in module.lines]
    return {
        "files": len(modules),
        "lines": len(lines),
        "non-blank": sum(bool(line.strip()) for line in lines),
    }


def below(modules: Modules, folder: str) -> Modules:
    """Return the modules of a folder and of everything below it."""
    return {name: module for name, module in modules.items() if inside(name, folder)}


def label(folder: str) -> str:
    """Return a dotted folder name as a path."""
    return folder.replace(".", "/") + "/"


def code_figures(modules: Modules) -> tuple[Figures, Lists]:
    """Measure functions, classes, prose and imports of all packages."""
    graph = import_graph(modules)
    lists = circle_lists(modules, graph) | function_lists(modules)
    lists |= repeated_classes(modules)
    lists["private imports"] = private_imports(modules)
    figures: Figures = {name: len(entries) for name, entries in lists.items()}
    lists["keywords forwarded, assembler"] = forwarded_keywords(below(modules, "assembler"))
    figures["keywords forwarded, assembler"] = sum(
        int(line.split()[0]) for line in lists["keywords forwarded, assembler"]
    )
    for scope in FAMILY_SCOPES:
        counts, places = family_switches(below(modules, scope))
        figures[f"family switches, {label(scope)}"] = counts
        lists[f"family switches, {label(scope)}"] = places
    return figures | docstring_figures(modules), lists


def measure(root: Path) -> tuple[Figures, Lists]:
    """Return all figures of a tree, and the places behind them."""
    modules: Modules = {}
    for package in PACKAGES:
        modules |= read_modules(root, package)
    graph = import_graph(modules)
    shallow = [folder for folder in folders_of(modules) if folder.count(".") <= 1]
    shallow.sort(key=lambda folder: (PACKAGES.index(folder.split(".")[0]), folder))
    figures: Figures = {label(folder): folder_shape(graph, folder) for folder in shallow}
    figures["all packages"] = size(modules)
    for package in PACKAGES:
        figures[f"{label(package)} size"] = size(below(modules, package))
    tests = read_modules(root, TESTS)
    count = sum(f.name.startswith("test_") for m in tests.values() for f in functions(m))
    figures[f"{TESTS}/ size"] = size(tests) | {"tests": count}
    more, lists = code_figures(modules)
    figures |= more
    figures["comments per 100 code lines, all packages"] = comment_rate(modules)
    for folder in shallow:
        if folder in PACKAGES or inside(folder, "assembler"):
            name = f"comments per 100 code lines, {label(folder)}"
            figures[name] = comment_rate(below(modules, folder))
    return figures, lists


# Revisions


def git(root: Path, *arguments: str, index: Path | None = None) -> bytes:
    """Run git in a tree and return its output; a failure ends the script with git's message."""
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
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
    """Count the removed and added Python lines between a revision and the worktree.

    Untracked files count as added. They are registered in a copy of the index, so the real one
    does not change. A file that moves out of the packages counts as removed.
    """
    where = git(root, "rev-parse", "--path-format=absolute", "--git-path", "index").decode()
    patterns = [f":(glob){package}/**/*.py" for package in PACKAGES]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "index"
        shutil.copyfile(where.removesuffix("\n"), copy)
        present = [package for package in PACKAGES if (root / package).exists()]
        git(root, "add", "--intent-to-add", "--", *present, index=copy)
        output = git(root, "diff", "--numstat", "-M", "-l0", rev, "--", *patterns, index=copy)
    rows = [line.split("\t") for line in output.decode().splitlines()]
    added = sum(int(row[0]) for row in rows if row[0] != "-")
    removed = sum(int(row[1]) for row in rows if row[1] != "-")
    return {"removed": removed, "added": added, "removed minus added": removed - added}


# Output


def cell(value: Number | dict[str, Number] | None) -> str:
    """Return the text of a figure."""
    if value is None:
        return "-"
    return " / ".join(map(str, value.values())) if isinstance(value, dict) else str(value)


def heading(name: str, value: Number | dict[str, Number]) -> str:
    """Return the name of a figure with the names of its parts."""
    return f"{name}: {' / '.join(value)}" if isinstance(value, dict) else name


def plain(figures: Figures) -> str:
    """Return one line per figure."""
    rows = [(heading(name, value), cell(value)) for name, value in figures.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def table(rev: str, before: Figures, after: Figures) -> str:
    """Return a Markdown table of the figures of a revision and of the worktree."""
    names = list(before) + [name for name in after if name not in before]
    lines = [f"| figure | {rev} | worktree |", "|---|---|---|"]
    for name in names:
        title = heading(name, before[name] if name in before else after[name])
        lines.append(f"| {title} | {cell(before.get(name))} | {cell(after.get(name))} |")
    return "\n".join(lines)


def listing(lists: Lists) -> str:
    """Return the places behind the figures."""
    blocks = [
        "\n".join([f"{name}:", *(f"  {entry}" for entry in entries)])
        for name, entries in lists.items()
        if entries
    ]
    return "\n\n".join(blocks)


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the structure of the code.")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--rev", help="measure the tree of this revision")
    side.add_argument("--compare", metavar="REV", help="print this revision beside the worktree")
    default = Path(__file__).resolve().parents[1]
    parser.add_argument("--root", type=Path, default=default, help="root of the repository")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="list the places behind figures")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the figures that the command line asks for."""
    options = arguments_of(argv)
    root: Path = options.root
    if options.rev:
        with revision_tree(root, options.rev) as tree:
            figures, lists = measure(tree)
    else:
        figures, lists = measure(root)
    data: dict[str, object] = {"figures": figures}
    text = plain(figures)
    if options.compare:
        with revision_tree(root, options.compare) as tree:
            before, _ = measure(tree)
        changed = changed_lines(root, options.compare)
        data = {"before": before, "after": figures, "changed": changed}
        after = figures | {"Python lines changed": changed}
        text = table(options.compare, before, after)
    if options.verbose:
        data["lists"] = lists
        text += "\n\n" + listing(lists)
    sys.stdout.write((json.dumps(data, indent=2) if options.json else text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
