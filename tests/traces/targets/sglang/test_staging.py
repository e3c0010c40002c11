"""Buffers of two pages in every module of a release that knows their length, and nowhere else."""

from types import SimpleNamespace

from traces.targets.sglang import staging
from traces.targets.sglang.staging import short_staging


def test_buffers_of_pools_made_in_the_block_are_short(monkeypatch):
    base = SimpleNamespace(_WRITE_BACK_STAGING_PAGE_CHUNK=64)
    other = SimpleNamespace(_PAGES=8)
    release = SimpleNamespace(modules=(base, other))
    monkeypatch.setattr(staging, "installed_release", lambda: release)
    with short_staging():
        assert vars(base) == {"_WRITE_BACK_STAGING_PAGE_CHUNK": 2}
        assert vars(other) == {"_PAGES": 8}
    assert base._WRITE_BACK_STAGING_PAGE_CHUNK == 64
