"""Attributes are read without running code of the release; addresses are no values."""

from dataclasses import dataclass
from pathlib import Path

import torch

from traces.divergence import formatter
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


@dataclass(frozen=True)
class Window:
    address: int


class Package:
    name, package, root = "fake", "fake", Path("/nowhere")

    def register_types(self, encoder):
        encoder.register_value(Window)


def test_an_address_is_the_same_in_every_run_and_a_size_is_not():
    text_of = ValueFormatter(Package()).text_of

    assert text_of([torch.zeros(1).data_ptr(), 3]) == text_of([torch.ones(1).data_ptr(), 3])
    assert text_of(Window(7 << 44)) == text_of(Window(6 << 44)) != text_of(Window(7))
    assert text_of([2**40, 3]) == "[1099511627776, 3]"
    assert text_of(2**63 - 1) == "9223372036854775807"


def test_an_address_on_a_heap_that_lies_low_is_none_either(monkeypatch, tmp_path):
    maps = tmp_path / "maps"
    maps.write_text("00400000-00401000 r-xp 00000000 /bin/python3\n1f000000-1f800000 rw-p [heap]\n")
    monkeypatch.setattr(formatter, "_MAPS_FILE", maps)
    text_of = ValueFormatter(Package()).text_of

    assert text_of(0x1F000040) == text_of(0x1F7FFF40) == '{"address": "memory"}'
    assert text_of(0x1EFFFFFF) == "520093695"
