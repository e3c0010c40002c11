"""Two trees of a small package."""

import pytest

from tests.tools.hunks.small_package import BASE


@pytest.fixture
def trees(tmp_path):
    """Return a function that writes both trees, the head with replaced text, and their roots."""

    def written(*changes):
        head = dict(BASE)
        for file, old, new in changes:
            assert old in head[file]
            head[file] = head[file].replace(old, new)
        roots = (tmp_path / "base", tmp_path / "head")
        for root, texts in zip(roots, (BASE, head), strict=True):
            (root / "small").mkdir(parents=True)
            (root / "small" / "__init__.py").write_text("")
            for file, text in texts.items():
                (root / "small" / file).write_text(text)
        return roots

    return written
