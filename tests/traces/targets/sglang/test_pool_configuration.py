"""The release's own construction of pools: which flags are set together, and what is answered."""

from enum import Enum
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
import torch

from traces.targets.sglang import pool_configuration, pool_makers
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.geometry import geometry_of
from traces.targets.sglang.model_facts import ModelFacts
from traces.targets.sglang.pool_configuration import _answering, _arguments, _FlagSteps
from traces.targets.sglang.registry import registry
from traces.targets.sglang.server_flags import FlagValue, _compared_texts, _takes


def facts_of(model, **others):
    scenario = next(s for s in registry().values() if s.configures_pools and s.model == model)
    return ModelFacts(geometry_of(scenario), server_args=None, device="cpu", others=others)


class Pool:
    def __init__(self, **values):
        vars(self).update(values)


class OtherPool(Pool):
    pass


class Maker:
    """A construction of pools that reads five flags, and two whose values refuse each other."""

    refused_by_command_line = "algorithm"

    def free_flags(self):
        yield from (
            FlagValue("keeps_copy", True, False),
            FlagValue("reads_nothing", True, False),
            FlagValue("other_kind", True, False),
            FlagValue("unsupported", True, False),
            FlagValue("algorithm", "sentinel", None),
            FlagValue("backend", "wide", "narrow"),
            FlagValue("backend", "narrower", "narrow"),
            FlagValue("refuses_copy", True, False),
        )

    def accepts(self, flags):
        return self.refused_by_command_line not in flags

    def make(self, flags, *, others, algorithm=None):
        if "unsupported" in flags:
            raise ValueError("not for this model")
        if {"refuses_copy", "keeps_copy"} <= flags.keys():
            raise ValueError("not both")
        pool = OtherPool if "other_kind" in flags else Pool
        width = {"wide": 2, "narrower": 0}.get(flags.get("backend"), 1)
        return {"pool": pool(copy="keeps_copy" in flags, width=width, x="refuses_copy" in flags)}


def test_flags_that_keep_the_kinds_of_pools_are_set_together_and_others_alone():
    steps = _FlagSteps(Maker()).choose()
    assert steps == {
        "flags": {"keeps_copy": True, "reads_nothing": True, "backend": "wide"},
        "other_kind=true": {"other_kind": True},
        "unsupported=true": {"unsupported": True},
        "backend=narrower": {"backend": "narrower"},
        "refuses_copy=true": {"refuses_copy": True},
    }


def test_a_flag_that_is_read_for_nothing_makes_no_step_of_its_own():
    class Reader(Maker):
        def free_flags(self):
            yield FlagValue("keeps_copy", True, False)
            yield FlagValue("backend", "wide", "narrow")
            # A second value of a flag that is set already, without any effect.
            yield FlagValue("backend", "narrow", "narrow")

    assert list(_FlagSteps(Reader()).choose()) == ["flags"]


class Algorithm(Enum):
    EAGLE = 1
    EAGLE3 = 2
    NGRAM = 3
    UNKNOWN = 4


class Speculating(Maker):
    """Two of its algorithms lead to pools of their own; one needs a switch and a small cache."""

    def accepts(self, flags):
        return flags.get("speculative_algorithm") != "UNKNOWN"

    def make(self, flags, *, others, algorithm=None):
        if algorithm is None:
            return {"pool": Pool(tokens=0)}
        if flags.get("replays") and flags.get("cache_len"):
            raise ValueError("a cache of 3 tokens is too short")
        states = OtherPool if "other_kind" in flags else Pool
        tokens = {"EAGLE": 6, "EAGLE3": 6, "NGRAM": 7}[algorithm.name]
        return {"pool": states(tokens=tokens, replays="replays" in flags)}


def test_each_algorithm_that_leads_to_other_pools_has_a_step(monkeypatch):
    monkeypatch.setattr(pool_configuration, "find_part", lambda *_: Algorithm)
    together = {"cache_len": 3, "other_kind": True, "replays": True}

    steps = _FlagSteps(Speculating()).choose_speculation(together)

    sizes = {
        "speculative_num_steps": 2,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": 6,
    }
    assert {name: step.algorithm for name, step in steps.items()} == {
        "speculation=eagle": Algorithm.EAGLE,
        "speculation=ngram": Algorithm.NGRAM,
    }
    assert steps["speculation=eagle"].flags == {
        "speculative_algorithm": "EAGLE",
        **sizes,
        # Switches come first; the cache that is too short with them is left out.
        "replays": True,
    }
    assert steps["speculation=ngram"].flags == {"speculative_algorithm": "NGRAM", **sizes}


def test_a_release_without_algorithms_has_no_such_step(monkeypatch):
    monkeypatch.setattr(pool_configuration, "find_part", lambda *_: None)
    assert _FlagSteps(Speculating()).choose_speculation({"replays": True}) == {}


def test_texts_that_the_code_compares_a_flag_with_are_its_values(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("if get_exec().kernel.backend == 'a' or self.args.mode in ('b', 'c'): pass\n")
    other.write_text("if self.args.mode == 'd' or x == 'e' or self.args.size > 3: pass\n")
    assert _compared_texts((one, other)) == {"backend": ["a"], "mode": ["b", "c", "d"]}


@pytest.mark.parametrize(
    ("annotation", "numbers", "texts"),
    [
        (int, True, False),
        (int | None, True, False),
        ("Optional[int]", True, False),
        (Annotated[int | None, "help: an int"], True, False),
        (Annotated[str, "help: prints int"], False, True),
        ("str | None", False, True),
        (Literal["int"], False, False),
    ],
)
def test_type_of_a_flag_is_read_from_its_annotation(annotation, numbers, texts):
    assert (_takes(int, annotation), _takes(str, annotation)) == (numbers, texts)


def test_a_question_without_an_answer_ends_with_its_name():
    facts = facts_of("llama3_8b")
    assert facts.answer("end_layer") == facts.answer("start_layer") + 4
    with pytest.raises(UnsupportedByRelease, match="asks for speed_of_light"):
        facts.answer("speed_of_light")


def test_a_configuration_lacks_what_a_model_does_not_publish():
    config = facts_of("llama3_8b").answer("model_config")
    assert getattr(config.hf_config, "index_topk", None) is None
    sparse = facts_of("dsv32_fp8").answer("model_config")
    assert (sparse.hf_config.index_topk, sparse.hf_config.index_head_dim) == (2048, 128)
    assert sparse.hf_config.architectures == ["DeepseekV32ForCausalLM"]
    assert (sparse.kv_lora_rank, sparse.get_num_kv_heads(4, 1)) == (512, 1)


def test_sizes_of_pools_differ_from_each_other():
    sizes = facts_of("dsv4_flash").sizes
    numbers = [value for value in sizes.values() if isinstance(value, int)]
    full = ("max_total_num_tokens", "full_max_total_num_tokens")
    assert sizes[full[0]] == sizes[full[1]]
    assert len(set(numbers)) == len(numbers) - 1


@pytest.mark.parametrize(
    ("model", "tokens", "windows"),
    # Heads of 128; latent rows of 512 and 64; heads of 64 and a window of 128.
    [("llama3_8b", 144, None), ("dsv32_fp8", 640, None), ("gpt_oss", 144, 112)],
)
def test_no_number_of_tokens_is_a_dimension_of_the_rows(model, tokens, windows):
    sizes = facts_of(model).sizes
    assert (sizes["max_total_num_tokens"], sizes["swa_max_total_num_tokens"]) == (tokens, windows)


def test_missing_attributes_of_a_runner_are_answered_and_its_own_are_not():
    class Runner:
        page_size = 7

    runner = object.__new__(_answering(Runner, facts_of("llama3_8b")))
    assert runner.page_size == 7
    assert runner.kv_cache_dtype == torch.bfloat16
    assert not hasattr(runner, "__deepcopy__")


def test_a_record_of_sizes_is_filled_by_its_fields(monkeypatch):
    class Sizes:
        __struct_fields__ = ("max_total_num_tokens", "max_running_requests")

        def __init__(self, **values):
            vars(self).update(values)

    def method(self, *, sizes: "Sizes", req_to_token_pool: "object") -> None: ...

    monkeypatch.setitem(method.__globals__, "Sizes", Sizes)
    given = _arguments(method, facts_of("llama3_8b", req_to_token_pool="shared"))
    assert vars(given["sizes"]) == {"max_total_num_tokens": 144, "max_running_requests": 5}
    assert given["req_to_token_pool"] == "shared"


def test_a_release_without_the_method_is_unsupported(monkeypatch):
    release = SimpleNamespace(classes=())
    monkeypatch.setattr(pool_makers, "installed_release", lambda: release)
    monkeypatch.setattr(pool_makers, "_runner_parts", lambda: iter(()))
    pool_makers.pool_maker.cache_clear()
    with pytest.raises(UnsupportedByRelease, match="no class with _init_pools"):
        pool_makers.pool_maker()
    assert list(pool_makers.pool_maker_methods()) == []
    pool_makers.pool_maker.cache_clear()
