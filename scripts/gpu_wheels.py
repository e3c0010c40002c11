"""Fill a directory with the wheels of an sglang release for a GPU machine without a network.

Usage: `python -m scripts.gpu_wheels 0.5.12 --present names.txt`. The wheels are the release, its
kernels for Hopper, its pinned dependencies and ours, without those that the machine has. With
`--simulated` there are no kernels: the many cores of such a machine play the simulated device.
"""

import argparse
import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import requires
from pathlib import Path

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from tools.errors import ToolError, one_line
from tools.sides.environments.cache import parse_release, pins_of

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / ".goldentrace" / "wheels-sglang-gpu"
PYTHON = "3.12"
LIMIT_BYTES = 64 << 20

_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (35, 34, 31, 28, 27, 24, 17)),
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)
_KERNEL_PACKAGES = ("sglang-kernel", "sgl-kernel")
_COMPILER_PACKAGE = "apache-tvm-ffi"
# Built for one torch, or with it: the machine's own.
_TORCH_PACKAGES = frozenset({"numpy", "torch", "torchaudio", "torchvision", "triton"})
# Servers, tests and other models: nothing that wires KV caches imports them.
_UNUSED_FOLDERS = (
    "sglang/multimodal_gen/",
    "sglang/srt/grpc/",
    "sglang/srt/models/",
    "sglang/jit_kernel/benchmark/",
    "sglang/jit_kernel/tests/",
)
_SERVER_EXTENSIONS = "sglang/srt/rust_extensions/"
_HOPPER = "sgl_kernel/sm90/common_ops."

KeepsFile = Callable[[str], bool]
Download = Callable[[Sequence[str], Path], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the wheels of one release; print their number and size."""
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu_wheels", description=__doc__)
    parser.add_argument("release", help="version of sglang")
    parser.add_argument(
        "--present", type=Path, help="names of the machine's packages, one a line (pip freeze)"
    )
    parser.add_argument("--out", type=Path, help=f"directory to fill; {OUT}/RELEASE by default")
    parser.add_argument(
        "--simulated", action="store_true", help="for the simulated device and `mutate`: no kernels"
    )
    given = parser.parse_args(arguments)
    try:
        release = parse_release(given.release)
        present = frozenset() if given.present is None else read_present(given.present)
        out = OUT / release if given.out is None else given.out
        wheels = prepare_wheels(
            release, out=out, present=present, download=pip_download, simulated=given.simulated
        )
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    total = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {total / (1 << 20):.1f} MiB in {out}")
    return 0


def prepare_wheels(
    release: str,
    *,
    out: Path,
    present: frozenset[str],
    download: Download,
    simulated: bool = False,
) -> tuple[Path, ...]:
    """Fill a directory with the wheels of a release; return them.

    Args:
        release: version of sglang.
        out: directory; wheels in it are removed first.
        present: normalised names of what the machine has, in whatever version.
        download: gets requirements, without what they depend on, into a directory.
        simulated: for the simulated device and mutants, instead of kernels and tests.

    Raises:
        ToolError: something cannot be downloaded, or all of it is too large to travel.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=out) as name:
        raw = Path(name)
        download([f"sglang=={release}"], raw)
        (package,) = raw.glob("sglang-*.whl")
        kernels = [] if simulated else kernel_files(package)
        extra = "mutate" if simulated else "test"
        download([*kernels, *_dependencies(release, present, extra=extra)], raw)
        for wheel in raw.glob("*.whl"):
            trim_wheel(wheel, out, keeps=_filter_of(wheel))
    wheels = tuple(sorted(out.glob("*.whl")))
    total = sum(wheel.stat().st_size for wheel in wheels)
    if total >= LIMIT_BYTES:
        raise ToolError(str(out), "must travel", expected=f"below {LIMIT_BYTES} bytes", got=total)
    return wheels


def read_present(file: Path) -> frozenset[str]:
    """Return the normalised names of a list of packages, versions left out."""
    lines = (line.partition("=")[0].partition("@")[0].strip() for line in _lines(file))
    return frozenset(canonicalize_name(line) for line in lines if line)


def kernel_files(wheel: Path) -> list[str]:
    """Return the requirements of a release that run and compile its kernels."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        wanted = Metadata.from_email(archive.read(name), validate=False).requires_dist or []
    return [
        f"{one.name}{one.specifier}"
        for one in wanted
        if canonicalize_name(one.name) in (*_KERNEL_PACKAGES, _COMPILER_PACKAGE)
        and not _is_extra(one)
    ]


def trim_wheel(wheel: Path, into: Path, *, keeps: KeepsFile) -> Path:
    """Write a wheel of the same name with the files that ``keeps`` accepts, and their record."""
    target = into / wheel.name
    rows: list[tuple[str, str, str]] = []
    record = ""
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as sink,
    ):
        for entry in source.infolist():
            if entry.filename.endswith(".dist-info/RECORD"):
                record = entry.filename
            elif not entry.is_dir() and (_is_described(entry.filename) or keeps(entry.filename)):
                content = source.read(entry)
                sink.writestr(_entry_like(entry), content)
                rows.append((entry.filename, _digest(content), str(len(content))))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record, "", "")])
        sink.writestr(record, text.getvalue())
    return target


def keeps_release(name: str) -> bool:
    """Return whether a file of sglang's wheel is kept.

    Of the servers' extensions the Python files are: caches ask them for their own extension.
    """
    is_server = name.startswith(_SERVER_EXTENSIONS) and not name.endswith(".py")
    return not (is_server or name.startswith(_UNUSED_FOLDERS))


def keeps_kernels(name: str) -> bool:
    """Return whether a file of a kernel wheel is kept: Python, and binaries for Hopper."""
    own = name.startswith("sgl_kernel/")
    return own and (name.endswith(".py") or name.startswith(_HOPPER))


def keeps_dependency(name: str) -> bool:
    """Return whether a file of another wheel is kept: static libraries are for compilers."""
    return not name.endswith(".a")


def pip_download(requirements: Sequence[str], into: Path) -> None:
    """Download wheels for the machine's Python.

    Raises:
        ToolError: pip failed; the message holds its errors.
    """
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run(
        [*command, "--dest", str(into), *requirements],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        expected = " ".join(requirements)
        raise ToolError(
            "wheels", "must be downloadable", expected=expected, got=one_line(" ".join(said))
        )


def _dependencies(release: str, present: frozenset[str], *, extra: str) -> list[str]:
    """Return the release's own pins and ours, and those of the others that the machine lacks."""
    own, *shared = pins_of(release).lists
    found = {
        canonicalize_name(one.name): one
        for one in (*_read_requirements([own]), *_our_requirements(extra))
    }
    for one in _read_requirements(shared):
        name = canonicalize_name(one.name)
        if name not in present:
            found.setdefault(name, one)
    return [
        f"{one.name}{one.specifier}" for name, one in found.items() if name not in _TORCH_PACKAGES
    ]


def _read_requirements(files: Iterable[Path]) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for file in files for line in _lines(file)]
    return [Requirement(line) for line in lines if line]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def _our_requirements(extra: str) -> list[Requirement]:
    """Return what this project and one of its extras need, directly or not, as it is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"][extra]
    pinned = {
        canonicalize_name(one.name): one for one in _read_requirements([ROOT / "constraints.txt"])
    }
    waiting = [Requirement(text) for text in (*project["dependencies"], *extras)]
    found: dict[str, Requirement] = {}
    while waiting:
        one = waiting.pop(0)
        name = canonicalize_name(one.name)
        is_wanted = one.marker is None or one.marker.evaluate({"extra": ""})
        if is_wanted and name not in found and name not in _TORCH_PACKAGES:
            found[name] = pinned.get(name, one)
            waiting += map(Requirement, requires(name) or ())
    return list(found.values())


def _filter_of(wheel: Path) -> KeepsFile:
    name = parse_wheel_filename(wheel.name)[0]
    if name == "sglang":
        return keeps_release
    return keeps_kernels if name in _KERNEL_PACKAGES else keeps_dependency


def _is_extra(requirement: Requirement) -> bool:
    return requirement.marker is not None and "extra" in str(requirement.marker)


def _is_described(name: str) -> bool:
    return name.partition("/")[0].endswith(".dist-info")


def _entry_like(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    own = zipfile.ZipInfo(entry.filename, date_time=entry.date_time)
    own.compress_type = zipfile.ZIP_DEFLATED
    own.external_attr = entry.external_attr
    return own


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


if __name__ == "__main__":
    sys.exit(main())
