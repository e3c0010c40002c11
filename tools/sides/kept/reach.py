"""The scenarios that a change of a package may reach, by what their runs have reached before."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.sides.kept.source_changes import ModuleChange, compare_modules
from tools.sides.kept.trees import TreeContent
from tools.workers.protocol import Reach

_MODULE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeChange:
    """Differences between two trees of one package.

    Attributes:
        everything: why every run may be reached; empty when that can be told apart.
        modules: the change of each module whose code differs, by file.
    """

    everything: str
    modules: Mapping[str, ModuleChange]

    def reaches(self, reach: Reach) -> bool:
        """Return whether a run that reached so much of the one tree may differ on the other."""
        if self.everything or reach.unsure:
            return True
        return any(_is_reached(file, change, reach) for file, change in self.modules.items())


def compare_trees(
    before: TreeContent, after: TreeContent, *, texts: Mapping[str, str], imports: Reach
) -> TreeChange:
    """Return what differs between two trees.

    ``texts`` are the modules of the earlier tree that anything has imported, and ``imports`` is
    what the import of the target has reached there: every run depends on it.
    """
    reason = _reason_for_everything(before, after, imports)
    if reason:
        return TreeChange(everything=reason, modules={})
    modules: dict[str, ModuleChange] = {}
    for file, digest in after.files.items():
        if before.files[file] != digest:
            change = compare_modules(texts.get(file), after.text(file))
            if not change.is_empty:
                modules[file] = change
    for file, change in modules.items():
        if _is_reached(file, change, imports):
            part = "code outside functions" if change.is_outside else "a function run at import"
            return TreeChange(everything=f"{file}: {part} has changed", modules=modules)
    return TreeChange(everything="", modules=modules)


def _reason_for_everything(before: TreeContent, after: TreeContent, imports: Reach) -> str:
    if imports.unsure:
        return f"the import starts {imports.unsure[0]}"
    if before.release != after.release:
        return f"another release ({before.release or 'unknown'} -> {after.release or 'unknown'})"
    for file in sorted(before.files.keys() ^ after.files.keys()):
        return f"{file} was {'added' if file in after.files else 'removed'}"
    for file, digest in after.files.items():
        if before.files[file] != digest and not file.endswith(".py"):
            return f"{file} has changed"
    return ""


def _is_reached(file: str, change: ModuleChange, reach: Reach) -> bool:
    if file in reach.opened:
        return True
    names = reach.functions.get(file, ())
    return (change.is_outside and _MODULE in names) or not change.functions.isdisjoint(names)
