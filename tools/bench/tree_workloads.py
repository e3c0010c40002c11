"""Requests for prefix trees: random prefixes, shared system prompts, conversations."""

import random
from array import array
from collections.abc import Callable, Iterator
from typing import TypeAlias

VOCABULARY = 128_000

Workload: TypeAlias = Callable[[random.Random, int], "Iterator[array[int]]"]


def random_prefixes(source: random.Random, number: int) -> "Iterator[array[int]]":
    """Yield requests that branch off an earlier one at a random token."""
    earlier: list[array[int]] = []
    for _ in range(number):
        tokens = array("q")
        if earlier:
            other = source.choice(earlier)
            tokens.extend(other[: source.randint(0, len(other))])
        tokens.extend(_text(source, source.randint(16, 256)))
        if len(earlier) < 512:
            earlier.append(tokens)
        else:
            earlier[source.randrange(512)] = tokens
        yield tokens


def shared_prompts(source: random.Random, number: int) -> "Iterator[array[int]]":
    """Yield requests behind one of 16 system prompts of 512 to 2048 tokens."""
    prompts = [_text(source, source.randint(512, 2048)) for _ in range(16)]
    for _ in range(number):
        yield source.choice(prompts) + _text(source, source.randint(16, 256))


def conversations(source: random.Random, number: int) -> "Iterator[array[int]]":
    """Yield the turns of 64 conversations at a time, each the one before and up to 192 tokens.

    A conversation ends after eight turns on average; the next begins with one of 8 system prompts.
    """
    prompts = [_text(source, source.randint(128, 1024)) for _ in range(8)]
    running = [source.choice(prompts) for _ in range(64)]
    for _ in range(number):
        place = source.randrange(len(running))
        running[place] = running[place] + _text(source, source.randint(32, 192))
        yield running[place]
        if source.random() < 1 / 8:
            running[place] = source.choice(prompts)


WORKLOADS: dict[str, Workload] = {
    "random": random_prefixes,
    "shared": shared_prompts,
    "turns": conversations,
}


def _text(source: random.Random, length: int) -> "array[int]":
    return array("q", source.choices(range(VOCABULARY), k=length))
