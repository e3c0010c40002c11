"""What receiving ranks get is compared with what a rank of their number holds."""

import pytest

from traces.targets.sglang.rank_slices import SlicedItems, rank_slices, read_blocks

HEADS = SlicedItems(groups=(8,))
CHANNELS = SlicedItems(groups=(16, 16))


def received(items, size, blocks_of):
    """What the receiving ranks of one pair of sizes get: missing, wrong, and by which ranks."""
    sources, targets = size
    pairs = [(source, target) for source in range(sources) for target in range(targets)]
    blocks = {(size, pair): blocks_of(*pair) for pair in pairs}
    (found,) = rank_slices(items, [size], blocks)
    return found.missing, found.wrong, found.ranks


def test_a_rank_holds_its_part_of_each_group():
    assert CHANNELS.held_by(1, 4) == [4, 5, 6, 7, 20, 21, 22, 23]


def test_more_ranks_than_heads_hold_the_same_head_side_by_side():
    assert [HEADS.held_by(rank, 16) for rank in (0, 1, 2, 15)] == [[0], [0], [1], [7]]


def test_bytes_of_channels_are_numbered_one_by_one():
    assert SlicedItems(groups=(4,), width=2).held_by(1, 2) == [4, 5, 6, 7]


def test_heads_that_go_to_their_places_are_right():
    assert received(HEADS, (2, 4), lambda _, target: [(target % 2 * 2, 0, 2)]) == (0, 0, "")
    assert received(HEADS, (4, 2), lambda source, _: [(0, source % 2 * 2, 2)]) == (0, 0, "")


def test_ranks_that_share_a_head_get_it_by_division_and_not_by_remainder():
    """Of 8 heads on 2 ranks and 16 receiving ones, ranks 8 and 9 hold head 4."""
    right = received(HEADS, (2, 16), lambda _, target: [(target // 2 % 4, 0, 1)])
    wrong = received(HEADS, (2, 16), lambda _, target: [(target % 4, 0, 1)])
    assert right == (0, 0, "")
    assert wrong == (0, 12, "1-6,9-14")


def test_several_senders_of_one_head_agree():
    right = received(HEADS, (16, 2), lambda source, _: [(0, source % 8 // 2, 1)])
    wrong = received(HEADS, (16, 2), lambda source, _: [(0, source % 4, 1)])
    assert right == (0, 0, "")
    assert wrong == (0, 8, "0-1")


def test_one_block_across_two_groups_is_wrong_and_one_for_each_is_right():
    def for_each(_source, target):
        return [(target * 8, 0, 8), (16 + target * 8, 8, 8)]

    assert received(CHANNELS, (1, 2), for_each) == (0, 0, "")
    assert received(CHANNELS, (1, 2), lambda _, target: [(target * 16, 0, 16)]) == (0, 16, "0-1")


def test_items_that_nobody_sends_are_missing():
    assert received(HEADS, (1, 2), lambda _, target: [(target * 4, 0, 3)]) == (2, 0, "0-1")


def test_items_beyond_the_receiving_rank_are_wrong():
    assert received(HEADS, (2, 2), lambda *_: [(0, 0, 4)]) == (0, 0, "")
    assert received(HEADS, (2, 2), lambda *_: [(0, 0, 5)]) == (0, 2, "0-1")


@pytest.mark.parametrize(
    ("answer", "blocks"),
    [
        ((4, 2, 0, 2), ((4, 0, 2),)),
        ([(0, 8, 4), [16, 24, 4]], ((0, 8, 4), (16, 24, 4))),
        ([], ()),
        (True, None),
        ([(0, 8)], None),
        ((1, [128], 128), None),
        ((0, 1, 2, 3, 4), None),
    ],
)
def test_blocks_are_read_by_their_form(answer, blocks):
    assert read_blocks(answer) == blocks
