"""Environments: built once from wheels, offline afterwards, rebuilt when damaged."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest

from tools.errors import ToolError
from tools.sides.environments import cache, layers
from tools.sides.environments.cache import environment_for
from tools.sides.environments.layers import MANIFEST, PackageLayer, ensure_layer

ROOT = Path(__file__).resolve().parents[4]


def make_wheel(folder: Path, name: str, version: str, *, value: str) -> None:
    """Write a wheel of one module by hand: no build tool, no network."""
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"VALUE = {value!r}\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Wheels that pip finds, and nothing else: no index, none of the user's configuration."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "sglang", "9.1", value="release")
    make_wheel(wheels, "dependency", "1.0", value="pinned")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where environments lie."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "sglang"


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """One release, which needs one dependency."""
    lists = tmp_path / "requirements"
    lists.mkdir()
    (lists / "releases.toml").write_text('"9.1" = ["common"]\n')
    (lists / "common.txt").write_text("dependency==1.0\n")
    monkeypatch.setattr(cache, "pins_of", partial(cache.pins_of, folder=lists))
    return lists


@pytest.fixture
def no_pip(monkeypatch):
    """Any call of pip fails the test."""

    def call():
        def refuse(*_arguments, **_keywords):
            pytest.fail("pip was called")

        monkeypatch.setattr(layers, "install", refuse)

    return call


def value_of(directory: Path, module: str) -> str:
    program = f"import {module}; print({module}.VALUE)"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = sys.argv[1:]; {program}"]
    done = subprocess.run([*command, str(directory)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def layer_at(path: Path) -> PackageLayer:
    return PackageLayer(path=path, requirements=("dependency==1.0",), subject="a layer")


def test_environment_holds_the_release_and_its_pinned_dependencies(index, folder, pinned):
    environment = environment_for("9.1")
    assert environment.python == Path(sys.executable)
    assert environment.root.parent == folder
    assert value_of(environment.root, "sglang") == "release"
    [layer] = environment.layers
    assert value_of(layer, "dependency") == "pinned"
    assert environment.note == ""


def test_nothing_is_downloaded_when_the_cache_is_good(index, folder, pinned, no_pip, capsys):
    first = environment_for("9.1")
    assert "not in the cache yet" in capsys.readouterr().err
    no_pip()
    assert environment_for("9.1") == first
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["missing", "shorter", "no manifest", "torn manifest"])
def test_damaged_layer_is_built_anew(index, folder, damage, capsys):
    layer = ensure_layer(layer_at(folder / "layer"))
    module, manifest = layer / "dependency" / "__init__.py", layer / MANIFEST
    match damage:
        case "missing":
            module.unlink()
        case "shorter":
            module.write_text("")
        case "no manifest":
            manifest.unlink()
        case "torn manifest":
            manifest.write_text('{"dependency')
    capsys.readouterr()
    ensure_layer(layer_at(folder / "layer"))
    assert capsys.readouterr().err == "goldentrace: a layer: damaged in the cache, built anew\n"
    assert value_of(layer, "dependency") == "pinned"


def test_bytecode_is_no_damage(index, folder, no_pip):
    layer = ensure_layer(layer_at(folder / "layer"))
    for file in (layer / "dependency").glob("__pycache__/*"):
        file.unlink()
    (layer / "dependency" / "__pycache__" / "other.pyc").touch()
    no_pip()
    ensure_layer(layer_at(folder / "layer"))


def test_changed_list_is_another_layer(index, folder, pinned):
    [before] = environment_for("9.1").layers
    make_wheel(index, "dependency", "1.1", value="newer")
    (pinned / "common.txt").write_text("dependency==1.1\n")
    [after] = environment_for("9.1").layers
    assert before != after
    assert value_of(after, "dependency") == "newer"


def test_release_that_is_not_to_be_had_is_named_with_the_cache(index, folder, pinned):
    with pytest.raises(ToolError) as raised:
        environment_for("9.2")
    said = str(raised.value)
    assert said.startswith("sglang 9.2: must be installable; expected sglang==9.2 from pip's index")
    assert str(folder) in said
    assert "No matching distribution found for sglang==9.2" in said
    assert "\n" not in said


def test_of_many_versions_the_newest_is_named(index, folder, pinned):
    for version in ("9.0", "9.1.post1"):
        make_wheel(index, "sglang", version, value="x")
    with pytest.raises(ToolError) as raised:
        environment_for("9.2")
    said = str(raised.value)
    assert "sglang==9.2 (newest: 9.1.post1)" in said
    assert "9.0" not in said


def test_requirement_that_is_not_to_be_had_is_named(index, folder, pinned):
    (pinned / "common.txt").write_text("dependency==1.0\nmissing==2.0\n")
    with pytest.raises(ToolError, match=r"^sglang 9\.1 \(requirements common\): .*missing==2\.0"):
        environment_for("9.1")


def test_index_that_cannot_be_reached_is_said(index, folder, pinned, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ToolError, match=r"got no connection to the index \(.*sglang==9\.1"):
        environment_for("9.1")


def test_failed_build_leaves_nothing_that_looks_whole(index, folder, pinned):
    with pytest.raises(ToolError):
        environment_for("9.2")
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []


def test_draft_of_a_killed_build_is_removed(index, folder):
    draft = folder / ".layer-abc"
    draft.mkdir(parents=True)
    ensure_layer(layer_at(folder / "layer"))
    assert not draft.exists()


def test_cache_that_cannot_be_written_is_said(index, folder):
    folder.parent.mkdir()
    folder.write_text("a file")
    with pytest.raises(ToolError, match=r"^a layer: the cache must be writable; expected a wri"):
        ensure_layer(layer_at(folder / "layer"))


def test_user_configuration_for_other_places_is_overruled(index, folder, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    assert value_of(ensure_layer(layer_at(folder / "layer")), "dependency") == "pinned"


def test_two_processes_that_want_one_layer_build_it_once(index, folder, tmp_path):
    """Scenario: the first builds slowly; the second waits, then finds the layer whole."""
    program = tmp_path / "build.py"
    program.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tools.sides.environments import layers\n"
        "install = layers.install\n"
        "def slow(*arguments, **keywords):\n"
        "    open(sys.argv[2], 'a').write('built\\n')\n"
        "    time.sleep(1)\n"
        "    install(*arguments, **keywords)\n"
        "layers.install = slow\n"
        "layer = layers.PackageLayer(path=Path(sys.argv[1]), requirements=('dependency==1.0',),\n"
        "                     subject='a layer')\n"
        "layers.ensure_layer(layer)\n"
    )
    built = tmp_path / "built"
    command = [sys.executable, str(program), str(folder / "layer"), str(built)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = []
    for _ in range(2):
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
        deadline = time.monotonic() + 20
        while not built.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    said = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert built.read_text() == "built\n"
    assert "waiting for another process that builds it" in said[1]
    assert json.loads((folder / "layer" / MANIFEST).read_text())
