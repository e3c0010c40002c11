"""Pins: every release's own lists, the nearest older ones for the others."""

import re

import pytest

from tools.errors import ToolError
from tools.sides.environments.cache import newest_release, parse_release, pins_of

RELEASES = ["0.5.10", "0.5.10.post1", "0.5.11", "0.5.12", "0.5.12.post1"] + [
    f"0.5.{number}" for number in range(13, 24)
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "releases.toml").write_text('"1.0" = ["a", "b"]\n"1.2" = ["c"]\n"1.10" = ["d"]\n')
    return tmp_path


def names(release, folder):
    return [file.name for file in pins_of(release, folder=folder).lists]


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_lists_of_exact_versions_without_torch_and_triton(release):
    pins = pins_of(release)
    assert pins.note == ""
    lines = [line for file in pins.lists for line in file.read_text().splitlines()]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+==[0-9a-z.]+", line) for line in lines)
    distributions = [re.sub("[-_]", "-", line.partition("==")[0]).lower() for line in lines]
    assert len(distributions) == len(set(distributions))
    assert {"transformers", "torchvision"} <= set(distributions)
    assert not {"torch", "triton", "sglang"} & set(distributions)


def test_layers_are_few():
    lists = {file for release in RELEASES for file in pins_of(release).lists}
    assert len(lists) == 8


def test_unknown_release_gets_the_nearest_older_lists_with_a_note(folder):
    pins = pins_of("1.3", folder=folder)
    assert names("1.3", folder) == ["c.txt"]
    assert pins.note == "no pinned requirements for 1.3: those of 1.2 used"
    assert pins_of("1.2", folder=folder).note == ""


def test_release_candidate_is_older_than_its_release(folder):
    assert names("1.2rc1", folder) == ["a.txt", "b.txt"]
    assert names("1.2.post1", folder) == ["c.txt"]
    assert names("1.11", folder) == ["d.txt"]


def test_release_older_than_all_gets_the_oldest_lists_with_a_note(folder):
    pins = pins_of("0.1", folder=folder)
    assert names("0.1", folder) == ["a.txt", "b.txt"]
    assert pins.note == "no pinned requirements for 0.1: those of 1.0 used"


def test_newest_release_is_newest_by_number_not_by_text(folder):
    assert newest_release(folder) == "1.10"


def test_version_is_normalised_or_refused():
    assert parse_release("v0.5.12-post1") == "0.5.12.post1"
    with pytest.raises(ToolError, match=r"^side: must name a version; .* got 'latest'$"):
        parse_release("latest")
