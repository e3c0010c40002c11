"""The parity certificate as a file."""

import hashlib
import json

import msgspec
import pytest

from tools.goldens.sidecars import (
    CertificateEntry,
    add_certificate_entry,
    certificate_problem,
    goldens_sha256,
    read_certificate,
)

GOLDENS = {"b": b"two\n", "a": b"one\n"}


def entry(device_name="NVIDIA H100", *, goldens=GOLDENS) -> CertificateEntry:
    return CertificateEntry(
        scenarios=2,
        differences=0,
        goldens_sha256=goldens_sha256(goldens),
        device_name=device_name,
        driver="570.1",
        cuda="13.0",
        torch="2.0",
        python="3.11",
        commit="abc",
        dirty=False,
        date="2026-11-22T19:44:39+00:00",
    )


def write(folder, *entries):
    for of in entries:
        (folder / "PARITY.json").write_text(add_certificate_entry(folder, of))


def test_digest_is_over_sorted_names_sizes_and_bytes():
    assert goldens_sha256(GOLDENS) == hashlib.sha256(b"a\x004\x00one\nb\x004\x00two\n").hexdigest()
    assert goldens_sha256(dict(reversed(GOLDENS.items()))) == goldens_sha256(GOLDENS)


@pytest.mark.parametrize(
    "goldens",
    [
        {"a": b"one\n"},
        {"a": b"one\n", "b": b"two"},
        {"a": b"one\n", "c": b"two\n"},
        {"a": b"two\n", "b": b"one\n"},
        {**GOLDENS, "c": b""},
    ],
    ids=["lost", "changed", "renamed", "swapped", "added"],
)
def test_digest_of_other_goldens_is_another(goldens):
    assert goldens_sha256(goldens) != goldens_sha256(GOLDENS)


def test_certificate_has_one_line_a_device(tmp_path):
    write(tmp_path, entry("NVIDIA H200"), entry("NVIDIA H100"))
    lines = (tmp_path / "PARITY.json").read_text().splitlines()
    assert lines[:3] == ["{", '"schema": "goldentrace.parity/1",', '"devices": {']
    assert lines[3].startswith('"NVIDIA H100": {"scenarios":2,"differences":0,"goldens_sha256":')
    assert lines[4].startswith('"NVIDIA H200": {')
    assert lines[5:] == ["}", "}"]


def test_second_run_on_a_device_replaces_its_entry_alone(tmp_path):
    write(tmp_path, entry("NVIDIA H100"), entry("NVIDIA H200"))
    newer = msgspec.structs.replace(entry("NVIDIA H100"), driver="580.2")
    write(tmp_path, newer)
    assert read_certificate(tmp_path) == {"NVIDIA H100": newer, "NVIDIA H200": entry("NVIDIA H200")}


@pytest.mark.parametrize(
    "text",
    ["", "<<<<<<< ours\n", "[]", '{"schema": "other/1", "devices": {}}', '{"devices": {"x": {}}}'],
)
def test_unreadable_certificate_holds_nothing(tmp_path, text):
    (tmp_path / "PARITY.json").write_text(text)
    assert read_certificate(tmp_path) == {}
    assert certificate_problem(tmp_path, contents=GOLDENS).startswith(
        "parity: certificate is missing;"
    )


def test_certificate_with_differences_holds_nothing(tmp_path):
    write(tmp_path, entry())
    path = tmp_path / "PARITY.json"
    assert read_certificate(tmp_path) != {}
    path.write_text(path.read_text().replace('"differences":0', '"differences":1'))
    assert read_certificate(tmp_path) == {}


def test_certificate_of_the_present_goldens_is_not_doubted(tmp_path):
    write(tmp_path, entry("NVIDIA H100"), entry("NVIDIA H200"))
    assert certificate_problem(tmp_path, contents=GOLDENS) == ""


def test_older_certificate_is_doubted(tmp_path):
    write(tmp_path, entry())
    assert certificate_problem(tmp_path, contents={**GOLDENS, "a": b"new\n"}) == (
        "parity: certificate is older than the goldens; "
        "run goldentrace parity --device cuda --write on a GPU"
    )


def test_device_whose_entry_is_older_is_named(tmp_path):
    write(tmp_path, entry("NVIDIA H100"), entry("NVIDIA H200", goldens={"a": b"old\n"}))
    assert certificate_problem(tmp_path, contents=GOLDENS) == (
        "parity: certificate of NVIDIA H200 is older than the goldens; "
        "run goldentrace parity --device cuda --write on one"
    )


def test_missing_certificate_is_doubted(tmp_path):
    assert certificate_problem(tmp_path, contents=GOLDENS) == (
        "parity: certificate is missing; run goldentrace parity --device cuda --write on a GPU"
    )


def test_entry_reads_as_plain_json(tmp_path):
    write(tmp_path, msgspec.structs.replace(entry(), dirty=None, commit=""))
    found = json.loads((tmp_path / "PARITY.json").read_text())["devices"]["NVIDIA H100"]
    assert (found["commit"], found["dirty"]) == ("", None)
