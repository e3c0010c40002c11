import threading
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path

import attrs
import numpy as np
import pydantic
import pytest
import torch

from traces.errors import RecorderError
from traces.recording.encode import Encoder
from traces.recording.object_ids import ObjectIds


class Pool:
    pass


class Layout(StrEnum):
    FIRST = "layer_first"


class Level(IntEnum):
    TWO = 2


@dataclass
class Options:
    ratio: float
    layout: Layout
    pool: Pool | None = None
    parts: list[int] = field(default_factory=list)
    _cache: object = None


@pytest.fixture
def encoder() -> Encoder:
    labels = ObjectIds()

    def label(value: object) -> str:
        return labels.label(value, labels.name_of(type(value)))

    encoder = Encoder(labels, on_reference=label)
    encoder.register_reference(Pool, "Pool")
    encoder.register_value(Options)
    return encoder


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2.5, 2.5),
        ("text", "text"),
        (Layout.FIRST, "layer_first"),
        (Level.TWO, 2),
        ((1, [2, "x"]), [1, [2, "x"]]),
        (torch.Size((2, 3)), [2, 3]),
        ({3: "c", 1: "a"}, {"map": [[1, "a"], [3, "c"]]}),
        ({"b": 1, "a": 2, 3: 4}, {"map": [[3, 4], ["a", 2], ["b", 1]]}),
        ({Layout.FIRST: 1}, {"map": [["layer_first", 1]]}),
        ({3, 1, 2}, {"set": [1, 2, 3]}),
        (frozenset({"b", "a"}), {"set": ["a", "b"]}),
        (torch.bfloat16, {"dtype": "bfloat16"}),
        (torch.float8_e4m3fn, {"dtype": "float8_e4m3fn"}),
        (torch.device("cpu"), {"device": "torch"}),
        (torch.arange(4), {"slots": "0-3"}),
        (torch.zeros(2, 3), {"tensor": {"shape": [2, 3], "dtype": "float32"}}),
        (torch.zeros(3), {"tensor": {"shape": [3], "dtype": "float32"}}),
        (torch.zeros(3, dtype=torch.uint8), {"tensor": {"shape": [3], "dtype": "uint8"}}),
        (len, {"callable": True}),
        (lambda: None, {"callable": True}),
        (Pool, {"callable": True}),
    ],
)
def test_known_values(encoder, value, encoded):
    result = encoder.encode(value, "f.x")

    assert result == encoded
    assert type(result) is type(encoded)


def test_integer_keys_stay_integers(encoder):
    assert encoder.encode({0: 1, 10: 2, 9: 3}, "f.x") == {"map": [[0, 1], [9, 3], [10, 2]]}


def test_references_are_numbered_by_first_sight(encoder):
    first, second = Pool(), Pool()

    assert encoder.encode([second, first, second], "f.x") == [
        {"ref": "Pool#1"},
        {"ref": "Pool#2"},
        {"ref": "Pool#1"},
    ]
    assert encoder.encode(threading.Event(), "f.x") == {"ref": "Event#1"}


def test_registered_dataclasses_go_by_value(encoder):
    options = Options(ratio=2.0, layout=Layout.FIRST, pool=Pool(), _cache=object())

    assert encoder.encode(options, "f.x") == {
        "object": "Options",
        "fields": {
            "ratio": 2.0,
            "layout": "layer_first",
            "pool": {"ref": "Pool#1"},
            "parts": [],
        },
    }


def test_target_can_register_a_type_of_its_own(encoder):
    encoder.register(complex, lambda value, where: {"complex": [value.real, value.imag]})

    assert encoder.encode([1j], "f.x") == [{"complex": [0.0, 1.0]}]


def test_paths_and_numpy_scalars_do_not_show_the_machine(encoder):
    value = {"file": Path("/some/machine/pool.bin"), "rate": np.float32(0.5), "n": np.int64(3)}

    assert encoder.encode(value, "f.x") == {
        "map": [
            ["file", {"path": "pool.bin"}],
            ["n", {"numpy": "int64", "value": 3}],
            ["rate", {"numpy": "float32", "value": 0.5}],
        ]
    }


@attrs.define
class WithAttrs:
    rows: int
    _cache: object = None


class WithPydantic(pydantic.BaseModel):
    rows: int
    _cache: object = None


def test_declared_fields_are_encoded_where_asked_for(encoder):
    with pytest.raises(RecorderError, match=r"expected a registered type, got .*WithAttrs"):
        encoder.encode(WithAttrs(3), "f.x")

    encoder.encode_fields = True

    assert encoder.encode([WithAttrs(3, object()), WithPydantic(rows=4)], "f.x") == [
        {"object": "WithAttrs", "fields": {"rows": 3}},
        {"object": "WithPydantic", "fields": {"rows": 4}},
    ]


class Unknown:
    pass


@pytest.mark.parametrize(
    ("value", "where", "kind"),
    [
        (Unknown(), "f.x", "Unknown"),
        ([1, Unknown()], "f.x[1]", "Unknown"),
        ({"a": Unknown()}, "f.x['a']", "Unknown"),
        (Options(1.0, Layout.FIRST, parts=[Unknown()]), "f.x.parts[0]", "Unknown"),
        (np.array([3]), "f.x", "numpy.ndarray"),
        (object(), "f.x", "builtins.object"),
        (b"bytes", "f.x", "builtins.bytes"),
    ],
)
def test_unknown_types_are_errors_that_name_type_and_place(encoder, value, where, kind):
    with pytest.raises(RecorderError) as caught:
        encoder.encode(value, "f.x")

    assert str(caught.value).startswith(
        f"{where}: type must be known; expected a registered type, got "
    )
    assert str(caught.value).endswith(kind)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_floats_that_are_not_finite_are_errors(encoder, value):
    with pytest.raises(RecorderError, match="must be finite"):
        encoder.encode(value, "f.x")


def test_values_that_hold_themselves_are_errors(encoder):
    endless: list = []
    endless.append(endless)

    with pytest.raises(RecorderError, match="values must not nest too deep"):
        encoder.encode(endless, "f.x")
    assert encoder.encode([1], "f.x") == [1]


def test_slots_are_read_when_they_are_seen(encoder):
    slots = torch.arange(4)
    encoded = encoder.encode(slots, "f.x")
    slots += 10
    encoder.settle()

    assert encoded == {"slots": "0-3"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_slots_on_a_gpu_are_read_at_the_end_with_the_content_they_had(encoder):
    slots = torch.arange(4, device="cuda")
    encoded = encoder.encode(slots, "f.x")
    slots += 10

    assert encoded == {"slots": ""}
    encoder.settle()
    assert encoded == {"slots": "0-3"}


class OnDevice(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def test_slots_on_a_device_are_copied_once_while_they_do_not_change(encoder, monkeypatch):
    synchronised = []
    monkeypatch.setattr(torch.cuda, "synchronize", synchronised.append)
    slots = torch.arange(4).as_subclass(OnDevice)

    first, again = encoder.slots(slots), encoder.slots(slots)
    slots += 10
    changed, other = encoder.slots(slots), encoder.slots(slots.clone())
    encoder.settle()

    assert again is first
    assert [one["slots"] for one in (first, changed, other)] == ["0-3", "10-13", "10-13"]
    assert changed is not other
    assert synchronised == [torch.device("cpu")]


def test_a_class_that_is_registered_later_is_known_then(encoder):
    class Late:
        pass

    with pytest.raises(RecorderError, match="type must be known"):
        encoder.encode(Late(), "f.x")
    encoder.register_reference(Late, "Late")
    assert encoder.encode(Late(), "f.x") == {"ref": "Late#1"}
