"""Which flags are kept together, and how often a server is asked."""

import pytest

from traces.targets.sglang.pool_configuration import _added

FLAGS = [(name, name.upper()) for name in "abcdefgh"]


@pytest.mark.parametrize(
    ("refused", "kept", "tries"),
    [
        ((), "abcdefgh", 1),
        (("c",), "abdefgh", 7),
        (("a", "h"), "bcdefg", 11),
        (tuple("abcdefgh"), "", 15),
    ],
)
def test_flags_that_fit_are_kept_in_order_and_tried_in_halves(refused, kept, tries):
    asked = []

    def are_right(flags):
        asked.append("".join(flags))
        return not set(refused) & set(flags)

    found = _added({"start": 1}, FLAGS, are_right)

    assert found == {"start": 1, **{name: name.upper() for name in kept}}
    assert list(found) == ["start", *kept]
    assert len(asked) == tries


def test_of_two_flags_that_exclude_each_other_the_first_is_kept():
    def are_right(flags):
        return not {"b", "g"} <= set(flags)

    assert "".join(_added({}, FLAGS, are_right)) == "abcdefh"
