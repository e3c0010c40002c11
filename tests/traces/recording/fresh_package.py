"""A stranger's package, of which nothing is known to this project."""

from types import ModuleType

from traces import Recorder, record

POOLS = """
import threading
import torch

class Pool:
    def __init__(self, blocks, width=4, *, dtype=torch.float32):
        self.rows = torch.zeros(blocks, width, dtype=dtype)
        self.free = list(range(blocks))

    def allocate(self, count):
        taken, self.free = self.free[:count], self.free[count:]
        return torch.tensor(taken, dtype=torch.int64)

class Ready:
    def __init__(self):
        self._event = threading.Event()

    def set(self):
        self._event.set()

    def wait(self):
        self._event.wait()
"""


CACHE = """
import threading
from dataclasses import dataclass, field
import torch
from fresh.pools import Pool, Ready

@dataclass
class Policy:
    name: str
    limit: int = 8

class Cache:
    def __init__(self, device, host, policy=None, *, layers=2):
        self.device, self.host = device, host
        self.policy, self.layers = policy, layers

    def save(self, source, target):
        self.host.rows[target] = self.device.rows[source]

    def load(self, source, target, ready):
        self.device.rows[target] = self.host.rows[source]
        ready.set()

    def load_in_thread(self, source, target):
        ready = Ready()
        thread = threading.Thread(target=self.load, args=(source, target, ready))
        thread.start()
        ready.wait()
        thread.join()

def build_cache(blocks, *, host_width=4, policy=None):
    pool = Pool(blocks)
    host = Pool(2 * blocks, width=host_width)
    return Cache(pool, host, policy, layers=3)

def run():
    cache = build_cache(4, host_width=4)
    slots = cache.device.allocate(2)
    stored = cache.host.allocate(2)
    cache.save(slots, stored)
    cache.load_in_thread(stored, slots + 1)
    cache.host.rows[0].copy_(cache.device.rows[3])
    cache.device.rows[0].copy_(cache.host.rows[3])
"""


WATCH = ("fresh.pools", "fresh.cache")


def recorded(module: ModuleType, **options) -> Recorder:
    with record(watch=WATCH, **options) as recorder:
        module.run()
    return recorder
