from traces.diff.align import AlignmentKeys, Hunk, align, longest_increasing

RECORDS = 100_000


def aligned(base, head):
    """Align texts: the letter is the loose key, a following digit only part of the exact one."""
    keys = [AlignmentKeys(exact=side, loose=[item[:1] for item in side]) for side in (base, head)]
    return align(*keys, likeness=lambda i, j: 1.0 + (base[i] == head[j]))


def test_equal_sequences_have_no_hunk():
    alignment = aligned(["a1", "b1", "a2"], ["a1", "b1", "a2"])

    assert alignment.pairs == ((0, 0), (1, 1), (2, 2))
    assert alignment.hunks == ()


def test_other_details_are_the_same_records():
    alignment = aligned(["a1", "b1", "a2"], ["a7", "b8", "a9"])

    assert alignment.pairs == ((0, 0), (1, 1), (2, 2))


def test_lost_record_between_equal_keys_is_the_one_with_other_details():
    alignment = aligned(["a1", "a2", "a3"], ["a1", "a3"])

    assert alignment.pairs == ((0, 0), (2, 1))
    assert alignment.hunks == (Hunk(base=range(1, 2), head=range(1, 1)),)


def test_records_of_different_keys_are_never_paired():
    alignment = aligned(["a1"], ["b1"])

    assert alignment.pairs == ()
    assert alignment.hunks == (Hunk(base=range(1), head=range(1)),)


def test_empty_side_is_one_hunk():
    assert aligned([], ["a1", "b1"]).hunks == (Hunk(base=range(0), head=range(2)),)
    assert aligned([], []).hunks == ()


def test_one_lost_record_of_many_equal_ones_is_one_hunk():
    base = ["a1"] * RECORDS

    alignment = aligned(base, base[1:])

    assert len(alignment.pairs) == 99_999
    assert len(alignment.hunks) == 1


def test_one_lost_record_of_a_long_rhythm_is_one_hunk():
    base = [f"{'abcdefg'[index % 7]}1" for index in range(RECORDS)]

    alignment = aligned(base, base[:50_000] + base[50_001:])

    assert alignment.hunks == (Hunk(base=range(50_000, 50_001), head=range(50_000, 50_000)),)


def test_two_lost_records_of_a_long_rhythm_are_two_hunks():
    base = [f"{'abcdefg'[index % 7]}1" for index in range(RECORDS)]

    alignment = aligned(base, base[:30_000] + base[30_001:70_001] + base[70_002:])

    assert [hunk.base for hunk in alignment.hunks] == [range(30_000, 30_001), range(70_001, 70_002)]


def test_lost_record_is_one_hunk_although_all_details_differ():
    base = [f"{'abcdefg'[index % 7]}{index}" for index in range(RECORDS)]
    head = [f"{'abcdefg'[index % 7]}{index}x" for index in range(RECORDS)]

    alignment = aligned(base, head[:50_000] + head[50_001:])

    assert len(alignment.pairs) == 99_999
    assert len(alignment.hunks) == 1


def test_moved_record_is_lost_in_one_place_and_new_in_another():
    alignment = aligned(["w1", "a1", "b1", "c1"], ["a1", "b1", "c1", "w1"])

    assert alignment.pairs == ((1, 0), (2, 1), (3, 2))
    assert alignment.hunks == (
        Hunk(base=range(1), head=range(0)),
        Hunk(base=range(4, 4), head=range(3, 4)),
    )


def test_longest_increasing_leaves_out_what_moved():
    assert longest_increasing([0, 1, 4, 2, 3]) == {0, 1, 3, 4}
    assert longest_increasing([0, 1, 2]) == {0, 1, 2}
    assert longest_increasing([]) == set()


def nested(depth):
    """Return letters of which one occurs once, and in each half behind it again one, and so on."""
    inner = nested(depth - 1) if depth else []
    return [*inner, f"{chr(ord('a') + depth)}1", *inner]


def test_sequences_that_are_nested_deeply_are_aligned():
    both = nested(12)
    alignment = aligned(["x1", *both, "y1"], ["z1", *both[:4000], *both[4001:], "w1"])

    assert len(alignment.pairs) == len(both) - 1
    assert {(len(hunk.base), len(hunk.head)) for hunk in alignment.hunks} == {(1, 1), (1, 0)}
