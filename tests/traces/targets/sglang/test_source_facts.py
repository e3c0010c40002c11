"""Facts are read from statements wherever these lie in a module."""

import pytest

from traces.targets.sglang.source_facts import (
    compared_texts,
    defines_pool_maker,
    flags_without_host_tier,
    forward_stream_attributes,
    read_attributes,
    used_imports,
)

ASSIGNED = "self.cache_controller.fence = self.forward_stream"
PLACES = {
    "method": "class A:\n    def f(self):\n        {0}",
    "else": "if a:\n    pass\nelse:\n    {0}",
    "handler": "try:\n    pass\nexcept ValueError:\n    {0}",
    "finally": "try:\n    pass\nfinally:\n    {0}",
    "case": "match a:\n    case 1:\n        {0}",
    "loop": "while a:\n    with b:\n        {0}",
}


@pytest.mark.parametrize("place", PLACES)
def test_an_assignment_is_found_in_every_kind_of_block(place):
    text = PLACES[place]
    assert forward_stream_attributes(text.format(ASSIGNED)) == ("fence",)
    assert forward_stream_attributes(text.format("cache_controller = forward_stream")) == ()


@pytest.mark.parametrize("place", PLACES)
def test_a_pool_maker_is_found_in_every_kind_of_block(place):
    text = PLACES[place]
    assert defines_pool_maker(text.format("def _init_pools(self): pass"))
    assert not defines_pool_maker(text.format("x = 'def _init_pools('"))


def test_facts_of_two_texts_do_not_mix():
    one, other = "a.flag == 'on'", "b.mode == 'off'"
    assert (read_attributes(one), compared_texts(one)) == (("flag",), (("flag", ("on",)),))
    assert (read_attributes(other), compared_texts(other)) == (("mode",), (("mode", ("off",)),))


def test_used_imports_are_those_that_expressions_name():
    text = "from pools import Mha, Mla as Latent, Unused\nimport torch\n"
    body = "def build(pool):\n    own = Mha\n    return isinstance(pool, (own, Latent))\n"

    assert used_imports(text + body) == ("Latent", "Mha")
    assert used_imports(text + body.replace("own", "other")) == ("Latent", "Mha")


REFUSAL = """
def handle(args):
    if not args.shared_memory:
        return
    assert not (args.enable_hierarchical_cache or args.other), "not yet"
"""


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (REFUSAL, ("shared_memory",)),
        (REFUSAL.replace("enable_hierarchical_cache", "enable_mixed_chunk"), ()),
        (REFUSAL.replace("not args.shared_memory", "args.shared_memory"), ()),
        ("x = 'enable_hierarchical_cache'", ()),
        (REFUSAL.replace(" or ", " and "), ()),
        (REFUSAL.replace("    assert", "    if args.other:\n        assert"), ()),
        (REFUSAL.replace("assert not", "assert"), ()),
    ],
    ids=[
        "refused",
        "another flag is asserted",
        "returns with the flag",
        "a text alone",
        "refused with another flag only",
        "asserted on one branch",
        "asserted to be there",
    ],
)
def test_a_flag_is_refused_beside_a_host_tier_by_an_assertion_of_its_own_check(text, flags):
    assert flags_without_host_tier(text) == flags
