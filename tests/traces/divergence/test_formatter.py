"""Attributes are read without running code of the release."""

from traces.divergence.formatter import attributes


class Lazy:
    """Needs an attribute that is set last to give any other."""

    __slots__ = ("early", "late")

    def __getattr__(self, name):
        return getattr(self.late, name)


class Plain:
    def __init__(self):
        self.size = 3

    def __getattr__(self, name):
        raise RuntimeError(name)

    @property
    def rows(self):
        raise RuntimeError


def test_object_that_is_half_made_has_the_attributes_that_are_set():
    lazy = Lazy()
    lazy.early = 1
    assert attributes(lazy) == [("early", 1)]


def test_no_property_and_no_other_code_is_run():
    assert attributes(Plain()) == [("size", 3)]
