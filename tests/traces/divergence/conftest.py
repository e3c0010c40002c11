"""Two versions of a small package."""

import sys

import pytest
from twosided_stack import PACKAGE, SOURCE, Version, effect

from traces.divergence.locate import locate_divergence


@pytest.fixture
def look(tmp_path):
    """Return a function that locates the divergence behind an effect of replaced source text."""

    def looked(*replacements, base=(), cause=None):
        texts = []
        for changes in (base, replacements):
            text = SOURCE
            for old, new in changes:
                assert old in text
                text = text.replace(old, new)
            texts.append(text)
        number = len(list(tmp_path.iterdir()))
        sides = [
            Version(tmp_path / f"{number}{name}", text)
            for name, text in zip(("base", "head"), texts, strict=True)
        ]
        return locate_divergence(*sides, cause or effect(), scenario="s")

    yield looked
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
