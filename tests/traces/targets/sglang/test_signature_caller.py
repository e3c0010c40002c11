"""Arguments are supplied by name, and what a release never took is not lost silently."""

import pytest

from traces.targets.sglang.discovery import all_names_of, find_part
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.signature_caller import (
    SignatureCaller,
    accepted_parameters,
    missing_parameters,
)


def pool(size, *, head_dim=64):
    return size, head_dim


def test_only_what_a_signature_takes_is_passed():
    assert SignatureCaller().call(pool, {"size": 3, "head_dim": 128, "rope": 7}) == (3, 128)


def test_argument_that_matters_and_is_not_taken_is_noted():
    caller = SignatureCaller()
    caller.call(pool, {"size": 3, "v_head_dim": 128}, matters=("v_head_dim",))
    assert caller.dropped == ["pool.v_head_dim"]


def test_taken_argument_that_matters_is_not_noted():
    caller = SignatureCaller()
    caller.call(pool, {"size": 3, "head_dim": 128}, matters=("head_dim",))
    caller.call(pool, {"size": 3, "v_head_dim": None}, matters=("v_head_dim",))
    assert caller.dropped == []


def test_scenario_that_needs_more_is_unplayable():
    with pytest.raises(UnsupportedByRelease, match=r"^pool takes no kv_cache_dim$"):
        SignatureCaller().call(pool, {"size": 3, "kv_cache_dim": 656}, needs=("kv_cache_dim",))


def test_parameter_that_nobody_knows_is_unplayable():
    with pytest.raises(UnsupportedByRelease, match=r"^pool wants size$"):
        SignatureCaller().call(pool, {"head_dim": 128})


def test_error_of_the_release_itself_comes_through():
    def refuses(size):
        raise TypeError("unexpected keyword argument 'pp_rank'")

    with pytest.raises(TypeError, match="pp_rank"):
        SignatureCaller().call(refuses, {"size": 3})


def test_parameters_are_read_off_the_signature():
    assert accepted_parameters(pool) == {"size", "head_dim"}
    assert missing_parameters(pool, ()) == ["size"]


def test_missing_module_and_missing_member_are_none_and_a_present_one_is_found():
    assert find_part("traces.targets.sglang.no_such_module", "Anything") is None
    assert find_part("traces.targets.sglang.errors", "NoSuchError") is None
    assert find_part("traces.targets.sglang.errors", "UnsupportedByRelease") is UnsupportedByRelease


def test_renamed_parts_are_looked_up_newest_first():
    assert all_names_of("DSATokenToKVPool") == ("DSATokenToKVPool", "NSATokenToKVPool")
