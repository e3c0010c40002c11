"""Faults of wiring: a registration, a draft or a flag that does not arrive, a wrong attribute."""

from collections.abc import Iterator
from dataclasses import replace

import libcst as cst

from tools.mutation.generator import MutantSpec, MutationScope
from tools.mutation.operators.statements import without_statement
from tools.mutation.release.sites import (
    bare_call_of,
    class_around,
    own_name,
    shortened,
    sites_of,
    statements_of,
    words_of,
)
from tools.mutation.source.bindings import descendants, dotted_name, names_in, simple_name
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import ScopedNode, SourceUnit

_REGISTERING = frozenset({"register", "add", "attach", "install", "bind"})
_APPENDING = frozenset({"append", "extend", "insert", "setdefault", "update"})
_CONSTRUCTORS = frozenset({"__init__", "__post_init__"})
_COUNTS = frozenset({"is", "has", "num", "size", "len", "length", "enable", "use", "tokens", "idx"})
_TYPE_WORDS = ("dtype",)
_SIZE_WORDS = ("size", "dim", "num", "len", "bytes", "itemsize", "layer")


def drop_registration(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave out the call or the item that makes a buffer, a hook or a state known to its owner."""
    for unit, site in statements_of(tree, scope):
        call = bare_call_of(site.node)
        name = "" if call is None else simple_name(call.func)
        is_call = bool(words_of(name) & _REGISTERING) and name not in _REGISTERING
        is_kept = _is_registering(site) and (
            _is_own_item(site.node.body[0]) or (name in _APPENDING | _REGISTERING)
        )
        if is_call or is_kept:
            yield without_statement(unit, site)


def draft_none(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Pass None for a draft pool, or nothing for several, as their plural name says."""
    for unit, site in sites_of(tree, scope, cst.Call):
        for argument in site.node.args:
            if argument.star or argument.keyword is None:
                continue
            name = argument.keyword.value
            words = words_of(name)
            is_object = not isinstance(argument.value, cst.Integer | cst.Comparison)
            is_draft = "draft" in words and not words & _COUNTS and is_object
            if is_draft and unit.line(argument.value) not in ("None", "", "False", "True"):
                nothing = "()" if name.endswith("s") else "None"
                change = f"{unit.line(site.node.func)} {name} -> {nothing}"
                edit = unit.replace(argument.value, nothing)
                yield replace(MutantSpec.at(unit, site, edit, change=change), parameters=(name,))


def drop_flag(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Leave out a keyword that brings a setting to a constructor, which then takes its default."""
    for unit, site in sites_of(tree, scope, cst.Call):
        optional = _optional_keywords(site, scope)
        for argument in site.node.args:
            if argument.keyword is None or argument.keyword.value not in optional:
                continue
            if _is_setting(unit, site, argument.value):
                name = argument.keyword.value
                change = f"{unit.line(site.node.func)} without {name}"
                spec = MutantSpec.at(unit, site, unit.remove(argument), change=change)
                yield replace(spec, parameters=(name,))


def wrong_attribute(tree: SourceTree, scope: MutationScope) -> Iterator[MutantSpec]:
    """Read another dtype or size of the same object, one that the file reads of it elsewhere."""
    for unit in tree.units:
        known: dict[tuple[int, str], dict[str, None]] = {}
        sites = [
            site
            for _, site in sites_of(SourceTree([unit]), scope, cst.Attribute)
            if _family(site.node.attr.value) and dotted_name(site.node.value).strip(".")
        ]
        methods = {(_owner(site), site.node.attr.value) for site in sites if _is_called(unit, site)}
        for site in sites:
            known.setdefault(_owner(site), {})[site.node.attr.value] = None
        for site in sites:
            own = site.node.attr.value
            others = [
                name
                for name in known[_owner(site)]
                if name != own
                and _family(name) == _family(own)
                and (_owner(site), name) not in methods
            ]
            if others and not (_is_written(unit, site) or _is_called(unit, site)):
                others.sort(key=lambda name: (-len(words_of(name) & words_of(own)), name))
                change = f"{shortened(unit, site.node)} -> {others[0]} in {_header(unit, site)}"
                edit = unit.replace(site.node.attr, others[0])
                yield MutantSpec.at(unit, site, edit, change=change)


def _is_registering(site: ScopedNode[cst.SimpleStatementLine]) -> bool:
    """Return whether a line lies in a constructor or in a function that registers something."""
    name = own_name(site)
    return name in _CONSTRUCTORS or bool(words_of(name) & _REGISTERING)


def _is_own_item(small: cst.BaseSmallStatement) -> bool:
    """Return whether a statement puts an item into a mapping or list that ``self`` keeps."""
    match small:
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript(value=value))]):
            return dotted_name(value).startswith("self.")
        case _:
            return False


def _optional_keywords(site: ScopedNode[cst.Call], scope: MutationScope) -> frozenset[str]:
    """Return the keywords that a constructor call may leave out."""
    name = simple_name(site.node.func)
    if name != "__init__":
        return scope.optional_parameters.get(name, frozenset())
    owner = class_around(site)
    bases = () if owner is None else (simple_name(base.value) for base in owner.bases)
    return frozenset[str]().union(
        *(scope.optional_parameters.get(base, frozenset()) for base in bases)
    )


def _is_setting(unit: SourceUnit, site: ScopedNode[cst.Call], value: cst.BaseExpression) -> bool:
    """Return whether a value comes from outside of the function: an attribute or a parameter."""
    if any(isinstance(node, cst.Attribute) for node in descendants(value)):
        return True
    assert site.function is not None
    parameters = {
        node.name.value for node in descendants(site.function.params) if isinstance(node, cst.Param)
    }
    return bool(names_in(value) & (parameters | unit.local_names(value)))


def _family(name: str) -> str:
    """Return what an attribute is by the last word of its name: a dtype, or a kind of size."""
    last = name.rpartition("_")[2]
    if name.endswith(_TYPE_WORDS):
        return "dtype"
    return last if last in _SIZE_WORDS else ""


def _owner(site: ScopedNode[cst.Attribute]) -> tuple[int, str]:
    """Return the object that an attribute is read of: its text, in one class or function."""
    around = class_around(site) or site.function
    return id(around), dotted_name(site.node.value)


def _is_written(unit: SourceUnit, site: ScopedNode[cst.Attribute]) -> bool:
    return isinstance(unit.parent(site.node), cst.AssignTarget | cst.AnnAssign | cst.AugAssign)


def _is_called(unit: SourceUnit, site: ScopedNode[cst.Attribute]) -> bool:
    around = unit.parent(site.node)
    return isinstance(around, cst.Call) and around.func is site.node


def _header(unit: SourceUnit, site: ScopedNode[cst.Attribute]) -> str:
    start = unit.source[site.statement.start : site.statement.end].decode()
    return start.strip().split("\n")[0][:60]
