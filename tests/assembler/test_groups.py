import pytest

from assembler.groups import LocalGroup, ProcessGroup


def test_local_group_has_identity_members_and_place():
    group = LocalGroup("attn_cp", (4, 5, 6, 7), 2)

    assert (group.tag, group.ranks, group.rank(), group.size()) == ("attn_cp", (4, 5, 6, 7), 2, 4)
    assert isinstance(group, ProcessGroup)


def test_rank_and_size_alone_are_no_group():
    assert not isinstance((2, 4), ProcessGroup)


def test_rank_outside_the_group_raises():
    message = r"tp: rank must be a place in the group; expected 0 <= rank < 2, got 2"
    with pytest.raises(ValueError, match=message):
        LocalGroup("tp", (0, 1), 2)
