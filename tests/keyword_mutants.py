"""Mutants of ``assembler/``: one keyword argument of one call left out, all else as it was."""

from collections.abc import Iterator
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from tests.mutation import Mutant

WIRING = ("assembler/stacks/", "assembler/attach")
# Reached only on a GPU: their mutants are the business of the run there.
GPU_ONLY = ("assembler/accelerator/cuda.py",)
CONSTRUCTORS = ("__init__", "__post_init__", "init_hicache")


class _Calls(cst.CSTVisitor):
    """Collects the calls with keywords that lie inside the functions in question."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, *, every_function: bool) -> None:
        super().__init__()
        self._every_function = every_function
        self._scopes: list[str] = []
        self._functions = 0
        self._raises = 0
        self.found: list[tuple[cst.Call, str, int]] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._scopes.append(node.name.value)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:
        self._scopes.pop()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._scopes.append(node.name.value)
        self._functions += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:
        self._scopes.pop()
        self._functions -= 1

    def visit_Raise(self, node: cst.Raise) -> None:
        self._raises += 1

    def leave_Raise(self, original_node: cst.Raise) -> None:
        self._raises -= 1

    def visit_Call(self, node: cst.Call) -> None:
        in_constructor = any(scope in CONSTRUCTORS for scope in self._scopes)
        is_wiring = self._functions > 0 and (self._every_function or in_constructor)
        # What only words an error moves no byte.
        if is_wiring and not self._raises:
            line = self.get_metadata(PositionProvider, node).start.line
            self.found.append((node, ".".join(self._scopes), line))


def mutants_of(root: Path, file: Path) -> Iterator[Mutant]:
    """Yield every keyword-drop mutant of one file."""
    wrapper = MetadataWrapper(cst.parse_module(file.read_text(encoding="utf-8")))
    name = file.relative_to(root).as_posix()
    visitor = _Calls(every_function=name.startswith(WIRING))
    wrapper.visit(visitor)
    module = wrapper.module
    for call, function, line in visitor.found:
        callee = module.code_for_node(call.func)
        for argument in call.args:
            if argument.keyword is None:
                continue
            kept = [other for other in call.args if other is not argument]
            mutated = module.deep_replace(call, call.with_changes(args=kept))
            yield Mutant(
                file=name,
                line=line,
                key=f"{name} {function} {callee} {argument.keyword.value}",
                dropped=argument.keyword.value,
                source=mutated.code,
            )


def all_mutants(root: Path) -> list[Mutant]:
    """Return every mutant of the package ``assembler`` under ``root``, in file and line order."""
    files = sorted((root / "assembler").rglob("*.py"))
    played = [file for file in files if file.relative_to(root).as_posix() not in GPU_ONLY]
    return [mutant for file in played for mutant in mutants_of(root, file)]
