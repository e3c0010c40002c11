"""Request tables, and the per-request state of linear-attention layers."""

import dataclasses
import math
from typing import Any

import torch

from traces.targets.common.models import ModelShape
from traces.targets.sglang.discovery import find_class, find_part
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.geometry import SglangGeometry
from traces.targets.sglang.signature_caller import SignatureCaller, accepted_parameters

# Two requests that run have three each; a tree gets one of each, and one while a request ends.
STATE_SLOTS = 12
REQUESTS = 4
_CONTEXT_LENGTH = 256
_UTILS = "sglang.srt.configs.mamba_utils"


def build_request_table(caller: SignatureCaller, sizes: SglangGeometry, *, device: str) -> Any:  # noqa: ANN401
    """Build the table from requests to slots, with a state pool where the model has state.

    Raises:
        UnsupportedByRelease: the release keeps no such state.
    """
    layers = sizes.global_ids(sizes.model.state_layers)
    given = {
        "size": REQUESTS,
        "mamba_size": STATE_SLOTS,
        "mamba_spec_state_size": REQUESTS,
        "max_context_len": _CONTEXT_LENGTH,
        "device": device,
        "enable_memory_saver": False,
        "mamba_layer_ids": layers,
        # Trees keep checkpoints inside a page only with a second buffer for each request.
        "enable_mamba_extra_buffer": sizes.page_size > 1,
        "start_layer": sizes.start_layer,
    }
    if not layers:
        return caller.call(find_class("ReqToTokenPool"), given)
    given["cache_params"] = state_params(sizes.model, layers)
    table = find_class("HybridReqToTokenPool")
    if sizes.model.has_side_states:
        given |= _side_states(table, given, layers)
    return caller.call(table, given)


def _side_states(table: Any, given: dict[str, Any], layers: list[int]) -> dict[str, Any]:  # noqa: ANN401
    """Return values for the parameters that give a slot more than the states of its layers.

    Raises:
        UnsupportedByRelease: the table has none.
    """
    values = {"_layer_ids": layers, "_state_shape": (3, 64), "_context_len": 3, "_token_id": 7}
    found = {
        name: value
        for name in accepted_parameters(table)
        for suffix, value in values.items()
        if name not in given and name.endswith(suffix)
    }
    if not found:
        raise UnsupportedByRelease(f"{table.__name__} takes no side states")
    return found


def state_params(model: ModelShape, layers: list[int]) -> Any:  # noqa: ANN401
    """Describe the state with the release's own structures.

    A convolution state that lists its window first is Kimi's; the other is Mamba-2's.
    """
    kind = "KimiLinear" if model.conv_shapes[0][0] < model.conv_shapes[0][1] else "Mamba2"
    params, shape = (find_part(_UTILS, f"{kind}{part}") for part in ("CacheParams", "StateShape"))
    dtype = find_part(_UTILS, "Mamba2StateDType")
    if params is None or shape is None or dtype is None:
        raise UnsupportedByRelease(f"no state shapes for {kind}")
    return params(
        shape=_fill_shape(shape, model),
        dtype=dtype(conv=torch.bfloat16, temporal=torch.float32),
        layers=layers,
    )


def _fill_shape(shape: Any, model: ModelShape) -> Any:  # noqa: ANN401 - a dataclass of the release
    """Return a shape with its fields from the model; derived fields follow from the others."""
    heads, head_dim, state = model.temporal_shape
    conv = [tuple(one) for one in model.conv_shapes]
    known = {
        "conv": conv,
        "temporal": tuple(model.temporal_shape),
        "intermediate_size": heads * head_dim,
        "conv_dim": max(conv[0]),
        "ssm_state_size": state,
        "num_heads": heads,
        "head_dim": head_dim,
        "state_size": state,
        "conv_kernel": min(conv[0]) + 1,
        "num_k_heads": heads,
        "head_k_dim": math.prod(model.temporal_shape) // heads // head_dim,
        "num_spec": 0,
    }
    fields = {field.name for field in dataclasses.fields(shape)}
    return shape(**{key: value for key, value in known.items() if key in fields})
