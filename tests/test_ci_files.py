"""Files that other repositories use in their CI: the action, the GitLab job, the hooks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ACTION = ROOT / "action.yml"


def check_schema(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-actions", ACTION),
        ("vendor.gitlab-ci", ROOT / "docs" / "ci" / "gitlab-ci.yml"),
    ],
)
def test_file_is_valid_for_its_service(schema, path, tmp_path):
    assert check_schema(schema, path).returncode == 0
    broken = tmp_path / path.name
    broken.write_text(path.read_text().replace("runs:", "walks:").replace("script:", "stript:"))
    assert check_schema(schema, broken).returncode == 1


def test_hooks_are_a_valid_manifest():
    command = [sys.executable, "-m", "pre_commit", "validate-manifest", ".pre-commit-hooks.yaml"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("code", [0, 1, 2])
def test_step_of_the_action_keeps_the_exit_code_and_passes_the_summary_on(tmp_path, code):
    [step] = [one for one in yaml.safe_load(ACTION.read_text())["runs"]["steps"] if "id" in one]
    command = tmp_path / "goldentrace" / "bin" / "goldentrace"
    command.parent.mkdir(parents=True)
    command.write_text(
        "#!/bin/bash\n"
        f'printf "%s\\n" "$@" > "{tmp_path}/arguments"\n'
        f'echo "### pass" > "{tmp_path}/goldentrace.md"\nexit {code}\n'
    )
    command.chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "shown"),
        "TARGET": "sglang",
        "BASE": "pypi:0.5.23",
        "HEAD_SIDE": "dir:python",
        "SCENARIOS": "one two",
    }
    ran = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]], env=environment, check=False
    )
    assert ran.returncode == code
    assert (tmp_path / "shown").read_text() == "### pass\n"
    assert (tmp_path / "output").read_text().splitlines() == [
        f"sarif={tmp_path}/goldentrace.sarif",
        f"summary={tmp_path}/goldentrace.md",
    ]
    assert (tmp_path / "arguments").read_text().split() == [
        "gate", "one", "two", "--target", "sglang", "--base", "pypi:0.5.23",
        "--head", "dir:python", "--format", "github",
        "--output", f"sarif={tmp_path}/goldentrace.sarif",
        "--output", f"markdown={tmp_path}/goldentrace.md",
    ]  # fmt: skip
