import base64
import csv
import hashlib
import zipfile
from pathlib import Path

import pytest

from scripts import gpu_wheels
from tools.errors import ToolError

METADATA = """Metadata-Version: 2.1
Name: sglang
Version: 0.5.12
Requires-Dist: apache-tvm-ffi==0.1.9
Requires-Dist: sglang-kernel==0.4.2.post2
Requires-Dist: sgl-kernel==9; extra == "old"
Requires-Dist: torch==2.11.0
"""


def wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
    return path


def members(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def release(folder: Path) -> Path:
    files = {
        "sglang/version.py": "",
        "sglang/srt/mem_cache/memory_pool.py": "pool",
        "sglang/srt/models/llama.py": "model",
        "sglang/multimodal_gen/runtime.py": "images",
        "sglang-0.5.12.dist-info/METADATA": METADATA,
        "sglang-0.5.12.dist-info/RECORD": "old",
    }
    return wheel(folder, "sglang-0.5.12-cp312-cp312-manylinux_2_34_x86_64.whl", files)


def kernels(folder: Path) -> Path:
    files = {
        "sgl_kernel/__init__.py": "",
        "sgl_kernel/flash_ops.abi3.so": "large",
        "sgl_kernel/sm90/common_ops.abi3.so": "hopper",
        "sgl_kernel/sm100/common_ops.abi3.so": "blackwell",
        "lib/libother.a": "static",
        "sglang_kernel-0.4.2.dist-info/METADATA": "Name: sglang-kernel",
        "sglang_kernel-0.4.2.dist-info/RECORD": "old",
    }
    return wheel(folder, "sglang_kernel-0.4.2-cp310-abi3-manylinux2014_x86_64.whl", files)


def test_kernels_and_their_compiler_are_read_off_the_release(tmp_path: Path) -> None:
    wanted = gpu_wheels.kernel_files(release(tmp_path))
    assert wanted == ["apache-tvm-ffi==0.1.9", "sglang-kernel==0.4.2.post2"]


def test_kernel_wheel_keeps_python_and_hopper(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    cut = gpu_wheels.trim_wheel(kernels(tmp_path), out, keeps=gpu_wheels.keeps_kernels)
    assert sorted(members(cut)) == [
        "sgl_kernel/__init__.py",
        "sgl_kernel/sm90/common_ops.abi3.so",
        "sglang_kernel-0.4.2.dist-info/METADATA",
        "sglang_kernel-0.4.2.dist-info/RECORD",
    ]


def test_record_of_a_cut_wheel_names_what_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    cut = gpu_wheels.trim_wheel(release(tmp_path), out, keeps=gpu_wheels.keeps_release)
    with zipfile.ZipFile(cut) as archive:
        record = archive.read("sglang-0.5.12.dist-info/RECORD").decode().splitlines()
        content = archive.read("sglang/srt/mem_cache/memory_pool.py")
    rows = {name: (digest, size) for name, digest, size in csv.reader(record)}
    assert rows.keys() == set(members(cut))
    expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    assert rows["sglang/srt/mem_cache/memory_pool.py"] == (f"sha256={expected}", "4")
    assert rows["sglang-0.5.12.dist-info/RECORD"] == ("", "")
    assert "sglang/srt/models/llama.py" not in rows


def test_directory_holds_release_kernels_and_what_the_machine_lacks(tmp_path: Path) -> None:
    asked: list[str] = []

    def download(requirements: list[str], into: Path) -> None:
        asked.extend(requirements)
        (release if requirements == ["sglang==0.5.12"] else kernels)(into)

    out = tmp_path / "out"
    out.mkdir()
    (out / "old.whl").touch()
    wheels = gpu_wheels.prepare_wheels(
        "0.5.12", out=out, present=frozenset({"aiohttp"}), download=download
    )
    assert [path.name.partition("-")[0] for path in wheels] == ["sglang", "sglang_kernel"]
    assert sorted(out.iterdir()) == list(wheels)
    names = {text.partition("==")[0] for text in asked}
    assert {"sglang-kernel", "transformers", "msgspec", "orjson", "covertable"} <= names
    assert not names & {"aiohttp", "torch", "torchvision", "numpy"}


def test_wheels_that_cannot_travel_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_wheels, "LIMIT_BYTES", 100)
    with pytest.raises(ToolError, match="must travel"):
        gpu_wheels.prepare_wheels(
            "0.5.12",
            out=tmp_path / "out",
            present=frozenset(),
            download=lambda wanted, into: release(into) and None,
        )


def test_present_names_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("PyYAML==6.0\npydantic_core\n\nmine @ file:///x\n")
    found = gpu_wheels.read_present(tmp_path / "names")
    assert found == {"pyyaml", "pydantic-core", "mine"}


def test_wheels_for_the_simulated_device_have_no_kernels_and_what_mutants_need(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    def download(requirements: list[str], into: Path) -> None:
        asked.extend(requirements)
        if requirements == ["sglang==0.5.12"]:
            release(into)
        else:
            files = {"xgrammar/libxgrammar.a": "static", "xgrammar/bindings.so": "small"}
            wheel(into, "xgrammar-1-py3-none-any.whl", {**files, "xgrammar-1.dist-info/RECORD": ""})

    wheels = gpu_wheels.prepare_wheels(
        "0.5.12",
        out=tmp_path,
        present=frozenset(),
        download=download,
        simulated=True,
    )
    names = {text.partition("==")[0] for text in asked}
    assert {"transformers", "msgspec", "libcst"} <= names
    assert not names & {"sglang-kernel", "apache-tvm-ffi", "pytest"}
    assert members(wheels[1]) == ["xgrammar/bindings.so", "xgrammar-1.dist-info/RECORD"]
