"""The scenarios that a change of a package may reach, by what their runs have reached before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

from tools.sides.kept.source_changes import ModuleChange, changed_functions, compare_modules
from tools.sides.kept.trees import TreeContent
from tools.workers.protocol import Reach

_MODULE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeChange:
    """Differences between two trees of one package.

    Attributes:
        everything: why every run may be reached; empty when that can be told apart.
        modules: the change of each module whose code differs, by file.
        texts: the new text of each of them; None where it cannot be read.
    """

    everything: str
    modules: Mapping[str, ModuleChange]
    texts: Mapping[str, str | None] = field(default_factory=dict)

    def reaches(self, reach: Reach) -> bool:
        """Return whether a run that reached so much of the one tree may differ on the other."""
        if self.everything or reach.unsure:
            return True
        return any(
            _is_reached(file, change, reach) or _has_other_facts(file, self.texts.get(file), reach)
            for file, change in self.modules.items()
        )


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
    changed: dict[str, str | None] = {}
    for file, digest in after.files.items():
        if before.files[file] != digest:
            text = after.text(file)
            change = compare_modules(texts.get(file), text)
            if not change.is_empty:
                modules[file], changed[file] = change, text
    for file, change in modules.items():
        if _is_reached(file, change, imports):
            part = _part_reached(file, change, imports)
            return TreeChange(everything=f"{file}: {part} has changed", modules=modules)
        if _has_other_facts(file, changed[file], imports):
            reason = f"{file}: a fact that is read from its text has changed"
            return TreeChange(everything=reason, modules=modules)
    return TreeChange(everything="", modules=modules, texts=changed)


def changed_modules(before: TreeContent, after: TreeContent) -> tuple[str, ...]:
    """Return the Python files of both trees whose content differs, sorted."""
    return tuple(
        file
        for file in sorted(before.files.keys() & after.files.keys())
        if before.files[file] != after.files[file] and file.endswith(".py")
    )


def unexecuted_functions(
    before: TreeContent, after: TreeContent, *, reach: Reach
) -> tuple[str, ...]:
    """Return ``file:function`` for each changed function of both trees that a reach has not.

    A file is left out where something that was learnt from its text has changed, or may have:
    that guards it in part. Nothing is returned where the reach is unsure.
    """
    if reach.unsure:
        return ()
    return tuple(
        f"{file}:{function}"
        for file in changed_modules(before, after)
        if file not in reach.opened and not _has_other_facts(file, after.text(file), reach)
        for function in sorted(
            changed_functions(before.text(file), after.text(file))
            - set(reach.functions.get(file, ()))
        )
    )


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


def _part_reached(file: str, change: ModuleChange, imports: Reach) -> str:
    """Return what part of a changed module, which the import has reached, that is."""
    if change.is_outside:
        return "code outside functions"
    is_run = not change.functions.isdisjoint(imports.functions.get(file, ()))
    return "a function run at import" if is_run else "a name that the import looks for"


def _is_reached(file: str, change: ModuleChange, reach: Reach) -> bool:
    if file in reach.opened or not change.names.isdisjoint(reach.names):
        return True
    names = reach.functions.get(file, ())
    return (change.is_outside and _MODULE in names) or not change.functions.isdisjoint(names)


def _has_other_facts(file: str, text: str | None, reach: Reach) -> bool:
    """Return whether something that a run has learnt from a file is not so in another text."""
    return any(
        values[file] != _learn(fact, text) for fact, values in reach.facts.items() if file in values
    )


@cache
def _learn(fact: str, text: str | None) -> str | None:
    """Return the ``repr`` of what ``module:function`` says about a text; None when it fails."""
    module, _, name = fact.partition(":")
    try:
        return repr(getattr(import_module(module), name)(text))
    except Exception:  # noqa: BLE001 - whatever fails is no longer so
        return None
