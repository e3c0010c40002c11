"""Buffers on the device that backups go through: so short that a backup fills one twice."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from traces.targets.sglang.discovery import installed_release

# Of the release: pages that a buffer has at most. It is more than any host pool of a scenario has.
_PAGES = "_WRITE_BACK_STAGING_PAGE_CHUNK"
_SHORT = 2


@contextmanager
def short_staging() -> Iterator[None]:
    """Have pools that are made in the block stage two pages at once, where they stage at all."""
    with ExitStack() as replaced:
        for module in installed_release().modules:
            if hasattr(module, _PAGES):
                replaced.enter_context(patch.object(module, _PAGES, _SHORT))
        yield
