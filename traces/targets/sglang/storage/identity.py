"""Identity of the rows of a stack: what sets them apart from the rows of other configurations."""

from traces.targets.common.planes import Plane
from traces.targets.sglang.geometry import geometry_of
from traces.targets.sglang.models import MODELS, served_name
from traces.targets.sglang.scenarios import GROUPS, REGISTERED_BACKENDS, SglangScenario

_STATES = "MAMBA"


def identity_seed(scenario: SglangScenario, plane: Plane) -> str:
    """Return a seed for the content of a plane's rows; empty where no other rows are compared.

    It has what makes rows of the same tokens differ: model, dtype, stage, the ranks over which
    tokens are spread, and the tensor-parallel rank where each has rows of its own.
    """
    if scenario.storage_backend != REGISTERED_BACKENDS:
        return ""
    shape = GROUPS[scenario.groups]
    tp_rank = shape.tp_rank or 0
    width = shape.attn_tp_size or 1
    parts: list[object] = [
        served_name(scenario.model),
        MODELS[scenario.model].attention.dtype,
        shape.pp_rank,
        geometry_of(scenario).start_layer,
        tp_rank // width if shape.attn_cp_size else 0,
        tp_rank % shape.dcp_size,
    ]
    if _is_sharded(scenario, plane):
        parts += [tp_rank % width, width]
    return "/".join(map(str, parts)) + ": "


def _is_sharded(scenario: SglangScenario, plane: Plane) -> bool:
    """Return whether every tensor-parallel rank has rows of its own: heads and states are divided.

    Latent rows and index keys have no heads: all ranks hold the same.
    """
    has_heads = MODELS[scenario.model].attention.kv_heads > 0
    return plane.domain.name == _STATES or (has_heads and plane.pool in ("KV", "SWA"))
