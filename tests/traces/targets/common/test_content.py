"""Bytes for pools are the same for a label every time, whatever becomes of those given before."""

import pytest

from traces.targets.common.content import pattern


@pytest.mark.parametrize("size", [6, 20_000])
def test_a_label_has_its_bytes_and_no_others(size):
    first = pattern("KV.kv[0]", (2, size))
    wanted = first.clone()
    first.zero_()

    again = pattern("KV.kv[0]", (2, size))

    assert again.shape == (2, size)
    assert again.equal(wanted)
    assert not again.equal(pattern("KV.kv[1]", (2, size)))


def test_bytes_are_those_of_the_seeded_generator():
    assert pattern("KV.kv[0]", (2, 3)).tolist() == [[66, 72, 14], [0, 129, 123]]
