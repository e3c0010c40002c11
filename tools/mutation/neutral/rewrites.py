"""The kinds of refactors by name."""

from collections.abc import Mapping

from tools.mutation.neutral.calls import (
    dict_splat,
    explicit_default,
    keyword_to_position,
    position_to_keyword,
    reorder_keywords,
)
from tools.mutation.neutral.functions import extract_helper, inline_helper, new_layer
from tools.mutation.neutral.modules import move_module, reformat, widen
from tools.mutation.neutral.refactor_stack import Rewrite
from tools.mutation.neutral.renames import rename_local, rename_private_function

REWRITES: Mapping[str, Rewrite] = {
    "reorder_keywords": reorder_keywords,
    "explicit_default": explicit_default,
    "position_to_keyword": position_to_keyword,
    "keyword_to_position": keyword_to_position,
    "dict_splat": dict_splat,
    "rename_local": rename_local,
    "rename_private_function": rename_private_function,
    "extract_helper": extract_helper,
    "inline_helper": inline_helper,
    "new_layer": new_layer,
    "move_module": move_module,
    "reformat": reformat,
    "widen": widen,
}
