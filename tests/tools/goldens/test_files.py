"""Goldens as files."""

from tools.goldens.golden_set import golden_folder, golden_names


def test_sidecars_are_no_goldens(tmp_path):
    for name in ("a.json", "a.sites.json", "PROVENANCE.json", "PARITY.json", "README.md"):
        (tmp_path / name).touch()
    assert golden_names(tmp_path) == {"a"}


def test_folder_that_is_missing_has_no_goldens(tmp_path):
    assert golden_folder(tmp_path, target="native") == tmp_path / "traces" / "golden" / "native"
    assert golden_names(tmp_path / "nowhere") == frozenset()
