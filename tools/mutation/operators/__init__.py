"""The operators by name; each makes one small fault."""

from collections.abc import Mapping

from tools.mutation.generator import Operator
from tools.mutation.operators.arguments import (
    default_argument,
    drop_keyword,
    layer_off_by_one,
    none_group,
    sibling_value,
    swap_arguments,
)
from tools.mutation.operators.signatures import drop_parameter
from tools.mutation.operators.statements import (
    drop_edge,
    drop_entry,
    drop_transfer,
    reorder_calls,
)

OPERATORS: Mapping[str, Operator] = {
    "drop_keyword": drop_keyword,
    "drop_parameter": drop_parameter,
    "default_argument": default_argument,
    "swap_arguments": swap_arguments,
    "sibling_value": sibling_value,
    "none_group": none_group,
    "layer_off_by_one": layer_off_by_one,
    "drop_entry": drop_entry,
    "drop_edge": drop_edge,
    "drop_transfer": drop_transfer,
    "reorder_calls": reorder_calls,
}

__all__ = ["OPERATORS"]
