"""The operators by name; each makes one small fault."""

from collections.abc import Mapping

from tools.mutation.generator import Operator
from tools.mutation.operators import arguments, generic, statements

_WIRING: Mapping[str, Operator] = {
    operator.__name__: operator
    for operator in (
        arguments.drop_keyword,
        arguments.drop_parameter,
        arguments.default_argument,
        arguments.swap_arguments,
        arguments.sibling_value,
        arguments.none_group,
        arguments.layer_off_by_one,
        statements.drop_entry,
        statements.drop_edge,
        statements.drop_transfer,
        statements.reorder_calls,
    )
}
GENERIC: Mapping[str, Operator] = {
    operator.__name__: operator
    for operator in (
        generic.constant_off_by_one,
        generic.comparison_changed,
        generic.condition_negated,
        generic.attribute_swapped,
        generic.statement_removed,
    )
}
"""Faults of any kind of code; judged as the gate does, with validation enabled."""
OPERATORS: Mapping[str, Operator] = {**_WIRING, **GENERIC}
GROUPS: Mapping[str, tuple[str, ...]] = {"default": tuple(_WIRING), "generic": tuple(GENERIC)}
