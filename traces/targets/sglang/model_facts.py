"""Facts of a model and its server that a release's own construction of pools asks for.

A question that has no answer here ends the scenario with the name of what was asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.geometry import SglangGeometry
from traces.targets.sglang.request_table import state_params

_CONTEXT_LENGTH = 4096
WINDOW = 128
_QSA = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_budget": 2048,
    "indexer_compress_ratio": 4,
}


class Facts:
    """Attributes by name; a name without a value raises like a configuration that lacks it.

    Attributes:
        asked: names that had no value, in order.
    """

    def __init__(self, subject: str, values: Mapping[str, Any], asked: list[str]) -> None:
        self.__dict__.update(values)
        self.__dict__.update(_subject=subject, _asked=asked)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        question = f"{self.__dict__['_subject']}.{name}"
        if not name.startswith("__"):
            self.__dict__["_asked"].append(question)
        raise AttributeError(question)


class ModelFacts:
    """Answers to what the construction of pools asks of a server and its model.

    Args:
        geometry: sizes and layers.
        server_args: the release's own arguments.
        device: torch device of the pools.
        others: answers that differ from those of a server with one model.
        speculation: the release's own description of speculative decoding; None for a server
            without it.

    Attributes:
        asked: what was asked for and has no answer, in order; a release may do without it.
    """

    def __init__(
        self,
        geometry: SglangGeometry,
        *,
        server_args: Any,  # noqa: ANN401 - the release's own class
        device: str,
        others: Mapping[str, Any],
        speculation: Any = None,  # noqa: ANN401 - a member of the release's own enumeration
    ) -> None:
        self.asked: list[str] = []
        self._others = others
        self._speculation = speculation
        self._geometry = geometry
        self._server_args = server_args
        self._device = device

    def answer(self, name: str) -> Any:  # noqa: ANN401 - a value of any type
        """Return the value of an attribute of the runner or configurator.

        Raises:
            UnsupportedByRelease: there is none.
        """
        if name not in (values := self.values):
            raise UnsupportedByRelease(f"the construction of pools asks for {name}")
        value = values[name]
        return value() if isinstance(value, _Late) else value

    @property
    def values(self) -> dict[str, Any]:
        """Attributes of a runner or configurator, and sizes, by name."""
        geometry, model = self._geometry, self._geometry.model
        return {
            "device": self._device,
            "gpu_id": 0,
            "server_args": self._server_args,
            "model_config": _Late(self._model_config),
            "model": None,
            "page_size": geometry.page_size,
            "kv_cache_dtype": geometry.dtype,
            "kv_cache_dtype_str": geometry.family.kv_cache_dtype or "auto",
            "model_dtype": torch.bfloat16,
            "is_draft_worker": False,
            "draft_model_idx": None,
            "use_mla_backend": not model.attention.kv_heads,
            "is_hybrid_swa": bool(model.swa_layers) or geometry.family.is_windowed,
            "is_hybrid_swa_compress": False,
            "sliding_window_size": WINDOW,
            "mambaish_config": _Late(self._state_config),
            "hybrid_gdn_config": None,
            "hybrid_kda_config": None,
            "post_capture_kv_active": False,
            "forward_stream": None,
            "enable_hisparse": False,
            "kv_shard_rank": None,
            "kv_shard_size": 1,
            "kv_shard_spec": None,
            "kv_shard_group": None,
            "memory_pool_config": None,
            "req_to_token_pool": None,
            "token_to_kv_pool_allocator": None,
            "state_dtype": torch.float32,
            "layer_info": _Late(lambda: self._facts("layer_info", self._layers())),
            "spec_algorithm": _Late(self._no_speculation),
            "spec_aux_config": _Late(self._no_draft),
            **self._layers(),
            **self.sizes,
            **({} if self._speculation is None else self._speculating()),
            **self._others,
        }

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the pools, each of its own, so that one taken for another shows."""
        geometry = self._geometry
        page, is_windowed = geometry.page_size, geometry.family.is_windowed
        size = self._unlike_dimensions(geometry.size)
        window = self._unlike_dimensions(geometry.swa_size, size)
        return {
            "max_total_num_tokens": size,
            "max_running_requests": 5,
            "full_max_total_num_tokens": size if is_windowed else None,
            "swa_max_total_num_tokens": window if is_windowed else None,
            # One page more than the others need: no two sizes are equal.
            "c4_max_total_num_tokens": self._unlike_dimensions((size + page) // 4, size, window),
            "c128_max_total_num_tokens": size // 128,
            "c4_state_pool_size": window // page * 8,
            "c128_state_pool_size": window // page * 128,
            "c4_state_dtype": torch.float32,
            "c128_state_dtype": torch.float32,
            "unified_memory_pool_bytes": None,
            "unified_total_bytes": None,
        }

    def _unlike_dimensions(self, slots: int, *sizes: int) -> int:
        """Return a number of slots, at least ``slots``, that is no size and no dimension."""
        page, model = self._geometry.page_size, self._geometry.model
        attention = model.attention
        taken = {attention.head_dim, attention.v_head_dim, attention.kv_lora_rank, *sizes}
        taken |= {attention.qk_rope_head_dim, model.index_head_dim, WINDOW, _CONTEXT_LENGTH}
        taken |= {attention.kv_lora_rank + attention.qk_rope_head_dim}
        while slots in taken:
            slots += page
        return slots

    def _speculating(self) -> dict[str, Any]:
        """Return what a server answers otherwise that decodes speculatively."""
        states = self._state_config()
        params = None if states is None else states.mamba2_cache_params
        is_kda = bool(getattr(params, "is_kda", False))
        return {
            "spec_algorithm": self._speculation,
            "hybrid_kda_config": states if is_kda else None,
            "hybrid_gdn_config": None if is_kda else states,
        }

    def _layers(self) -> dict[str, Any]:
        geometry, model = self._geometry, self._geometry.model
        return {
            "start_layer": geometry.start_layer,
            # Exclusive, as in a runner; pools take an inclusive one.
            "end_layer": geometry.end_layer + 1,
            "num_effective_layers": model.layer_span,
            "swa_attention_layer_ids": geometry.global_ids(model.swa_layers),
            "full_attention_layer_ids": geometry.global_ids(model.full_layers),
            "is_hybrid_swa_mtp_draft": False,
            "is_inkling_mtp_draft": False,
            "draft_swa_full_capacity": False,
        }

    def _model_config(self) -> Facts:
        geometry, model = self._geometry, self._geometry.model
        attention = model.attention
        hf_config = self._facts("hf_config", self._hf_values())

        def get_num_kv_heads(*sizes: int) -> int:
            del sizes
            return geometry.kv_heads

        values = {
            "hf_config": hf_config,
            "hf_text_config": hf_config,
            "context_len": _CONTEXT_LENGTH,
            "num_hidden_layers": geometry.end_layer + 1,
            "kv_lora_rank": attention.kv_lora_rank,
            "qk_rope_head_dim": attention.qk_rope_head_dim,
            "qk_nope_head_dim": attention.head_dim,
            "head_dim": attention.head_dim,
            "v_head_dim": attention.v_head_dim,
            "index_head_dim": model.index_head_dim,
            "window_size": WINDOW,
            "sliding_window_size": WINDOW,
            "quantization": None,
            "dtype": torch.bfloat16,
            "swa_attention_layer_ids": geometry.global_ids(model.swa_layers),
            "full_attention_layer_ids": geometry.global_ids(model.full_layers),
            "compress_ratios": self._compress_ratios(),
            "get_num_kv_heads": get_num_kv_heads,
            "get_swa_num_kv_heads": get_num_kv_heads,
            "swa_head_dim": attention.head_dim,
            "swa_v_head_dim": attention.v_head_dim,
        }
        return self._facts("model_config", values)

    def _hf_values(self) -> dict[str, Any]:
        geometry, model = self._geometry, self._geometry.model
        values: dict[str, Any] = {
            "architectures": [geometry.family.architecture],
            "num_hidden_layers": geometry.end_layer + 1,
        }
        if model.index_layers or geometry.family.constructor == "minimax":
            has_index = [layer in model.index_layers for layer in model.full_layers]
            flags = [0] * geometry.start_layer + [int(one) for one in has_index]
            values["sparse_attention_config"] = {
                "sparse_index_dim": model.index_head_dim,
                "sparse_attention_freq": flags,
                "sparse_disable_index_value": flags,
            }
        elif geometry.family.compresses_index:
            values |= {**_QSA, "indexer_head_dim": model.index_head_dim}
        elif model.index_head_dim:
            values |= {"index_topk": 2048, "index_head_dim": model.index_head_dim}
        if model.compress_ratios:
            values |= {"kv_source_layer_ids": [], "compress_ratios": self._compress_ratios()}
        return values

    def _compress_ratios(self) -> list[int]:
        geometry = self._geometry
        ratios = geometry.model.compress_ratios
        return list(ratios) * (geometry.start_layer // max(1, len(ratios)) + 1)

    def _state_config(self) -> Facts | None:
        geometry, model = self._geometry, self._geometry.model
        if not model.state_layers:
            return None
        values = {
            "mamba2_cache_params": state_params(model, geometry.global_ids(model.state_layers)),
            "full_attention_layer_ids": geometry.global_ids(model.full_layers),
        }
        return self._facts("state_config", values)

    def _no_speculation(self) -> Facts:
        def answer_no(*_arguments: object) -> bool:
            return False

        names = ("is_eagle", "is_dspark", "is_dflash", "is_dflash_family", "is_standalone")
        values = {**dict.fromkeys(names, answer_no), "is_none": lambda: True}
        return self._facts("spec_algorithm", values)

    def _no_draft(self) -> Facts:
        names = ("draft_model_config", "dflash_draft_num_layers")
        return self._facts("spec_aux_config", dict.fromkeys(names))

    def _facts(self, subject: str, values: Mapping[str, Any]) -> Facts:
        return Facts(subject, values, self.asked)


class _Late:
    """A value that is made when it is asked for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __call__(self) -> Any:  # noqa: ANN401 - a value of any type
        return self._make()
