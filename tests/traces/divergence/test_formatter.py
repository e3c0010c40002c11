"""Attributes are read without running code of the release; addresses are no values."""

from pathlib import Path

import torch

from traces.divergence.formatter import ValueFormatter, attributes


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


class Package:
    name, package, root = "fake", "fake", Path("/nowhere")

    def register_types(self, encoder):
        pass


def test_an_address_is_the_same_in_every_run_and_a_size_is_not():
    text_of = ValueFormatter(Package()).text_of

    assert text_of([torch.zeros(1).data_ptr(), 3]) == text_of([torch.ones(1).data_ptr(), 3])
    assert text_of([2**40, 3]) == "[1099511627776, 3]"
    assert text_of(2**63 - 1) == "9223372036854775807"
