"""Build the wheel and run the gate's check from it: `python scripts/check_wheel.py`.

Fails when the wheel lacks a file, contains one it should not, or behaves unlike the checkout.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {"assembler", "traces", "tools"}


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Run a command and return its output; its failure ends the script."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        command, cwd=cwd, env=variables, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def check_contents(wheel: Path) -> None:
    """Require every source file and golden in the wheel, and no other top-level name."""
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    if tops != TOP_LEVEL:
        raise SystemExit(
            f"wheel: top-level names; expected {sorted(TOP_LEVEL)}, got {sorted(tops)}"
        )
    wanted = {
        path.relative_to(ROOT).as_posix()
        for top in TOP_LEVEL
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".json", ".typed")
    }
    missing = sorted(wanted - names)
    if missing:
        raise SystemExit(f"wheel: every source file must be in it; expected {missing[0]}, got none")


def main() -> None:
    """Build, install and check the wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", scratch, str(ROOT), cwd=ROOT)
        (wheel,) = folder.glob("*.whl")
        check_contents(wheel)
        site = folder / "site"
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target")
        run(*pip, str(site), str(wheel), cwd=folder)
        where = run(
            *(sys.executable, "-c", "import assembler; print(assembler.__file__)"),
            cwd=folder,
            PYTHONPATH=str(site),
        )
        if not Path(where.strip()).is_relative_to(site):
            raise SystemExit(f"wheel: its own code must run; expected {site}, got {where.strip()}")
        verdict = run(
            *(sys.executable, "-m", "tools.cli", "check"), cwd=folder, PYTHONPATH=str(site)
        )
        print(f"{wheel.name}: complete, and judged from outside the checkout:")
        print(verdict)


if __name__ == "__main__":
    main()
