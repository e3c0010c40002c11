"""A small package in two versions, replayed in this process."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

from traces.divergence.tracer import log_run
from traces.recording.probes import EventProbe
from traces.schema.model import Location
from traces.schema.verdict import Cause, Kind, Level

PACKAGE = "twosided"

SOURCE = '''\
"""A pool, a controller and the builder of both."""

from twosided_stack import wait


class Pool:
    def __init__(self, layers, row_bytes):
        self.layers = layers
        self.row_bytes = row_bytes


class Controller:
    def __init__(self, pool, on_full, on_empty):
        self.pool = pool
        self.on_full = on_full
        self.on_empty = on_empty
        self.queue = []

    def write(self, number):
        self.queue.append(number)
        self.flush()

    def flush(self):
        for number in self.queue:
            move(number)
        self.queue.clear()

    def drop(self, number):
        wait("copies", id(self))
        wait("loads", id(self))
        return self.on_full(number)


def row_bytes(width, size):
    return width * size


def move(number):
    return number


def build(width):
    layers = [0, 1, 2]
    pool = Pool(layers, row_bytes(width, 2))
    return Controller(pool, on_full=full_of(pool), on_empty=empty_of(pool))


def full_of(pool):
    return lambda number: pool.layers[number]


def empty_of(pool):
    return lambda number: pool.row_bytes


def run():
    controller = build(8)
    for number in range(3):
        controller.write(number)
    return controller.drop(1)
'''


def wait(stream, address):
    """Stand in for a device; no function of the package."""
    del stream, address


@dataclass(frozen=True)
class TwoSided:
    """The package under one root as a target: moves and waits are what is recorded."""

    root: Path
    name: str = PACKAGE
    package: str = PACKAGE

    def probes(self):
        move = sys.modules[f"{PACKAGE}.stack"].move
        assert isinstance(move, FunctionType)
        return [
            EventProbe(
                function=function,
                family="move",
                nesting="every",
                observe=lambda values, result: None,
            )
            for function in (move, wait)
        ]

    def builders(self):
        return ("build",)

    def register_types(self, encoder):
        module = sys.modules[f"{PACKAGE}.stack"]
        for name in ("Pool", "Controller"):
            kind = getattr(module, name, None)
            if kind is not None:
                encoder.register_reference(kind, name)

    def view(self, pool):
        return None


class Version:
    """One version of the package, on disk, that can be played as often as wanted."""

    def __init__(self, root, text):
        self.root, self.text = root, text
        self.plays = 0
        (root / PACKAGE).mkdir(parents=True)
        (root / PACKAGE / "__init__.py").write_text("")
        (root / PACKAGE / "stack.py").write_text(text)

    def calls(self, scenario, request):
        return self._played(request)

    def lines(self, scenario, request):
        return self._played(request)

    def files(self):
        return (f"{PACKAGE}/stack.py",)

    def source(self, file):
        path = self.root / file
        return path.read_text() if path.is_file() else None

    def _played(self, request):
        self.plays += 1
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.path.insert(0, str(self.root))
        importlib.invalidate_caches()
        try:
            module = importlib.import_module(f"{PACKAGE}.stack")
            return log_run(TwoSided(self.root), request, run=module.run)
        finally:
            sys.path.remove(str(self.root))


def effect(**changes):
    """A cause that shows only what came of a fault."""
    known = {
        "kind": Kind.DIGEST_CHANGED,
        "level": Level.BEHAVIOUR,
        "builder": None,
        "callee": None,
        "parameter": None,
        "before": "aa",
        "after": "bb",
        "location": Location(file="elsewhere.py", line=1),
        "scenarios": ("s",),
        "consequences": (),
        "where": "device.KV in backup",
        "path": (),
        "variants": (),
        "count": 1,
        "message": "device.KV differs.",
        "rank": (4, 0),
    }
    return Cause(**{**known, **changes})


def line_of(piece, *replacements):
    """Return the first line that holds a piece of the source, after replacements."""
    text = SOURCE
    for old, new in replacements:
        text = text.replace(old, new)
    return 1 + text[: text.index(piece)].count("\n")
