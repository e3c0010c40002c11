"""Draw what the gate and the report show for four changes: ``docs/images``.

Run ``python scripts/screenshots.py [CHANGE...]`` in a checkout with Debian's ``chromium``. Each
change is made in a copy of HEAD; the goldens stay. It takes about five minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
COLUMNS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of ``assembler/``.

    Attributes:
        files: those that hold ``old``, as patterns.
        scenarios: what the names of the scenarios that are run have in common.
        is_everywhere: whether every ``old`` is replaced, or the only one in the only file.
    """

    name: str
    files: tuple[str, ...]
    old: str
    new: str
    scenarios: str
    is_everywhere: bool = False


CHANGES = (
    Change(
        name="dropped-override",
        files=("assembler/stacks/attach.py",),
        old="        override_kv_cache_dim=kv.device_pool.host_row_width,\n    )\n    # Before",
        new="    )\n    # Before",
        scenarios="nsa",
    ),
    Change(
        name="wrong-group",
        files=("assembler/stacks/parts.py",),
        old="        attn_cp_group=settings.attn_cp_group,\n",
        new="        attn_cp_group=settings.tp_group,\n",
        scenarios="hiradix_init",
    ),
    Change(
        name="missing-draft-load",
        files=("assembler/controller/copier.py",),
        old="layer < draft.device_pool.layer_num:",
        new="layer < draft.device_pool.layer_num - 1:",
        scenarios=".draft",
    ),
    Change(
        name="rename",
        files=("assembler/**/*.py", "traces/targets/native/**/*.py"),
        old="override_kv_cache_dim",
        new="kv_cache_dim_override",
        scenarios=".tp8cp2",
        is_everywhere=True,
    ),
)


def main() -> None:
    """Write an SVG of the terminal and PNGs of the page for each change."""
    IMAGES.mkdir(exist_ok=True)
    for change in CHANGES:
        if sys.argv[1:] and change.name not in sys.argv[1:]:
            continue
        with _copy_of_head() as copy:
            _apply(change, copy)
            names = _scenario_names(change, copy)
            _draw_terminal(change, copy, names)
            _draw_page(change, copy, names)
        print(change.name, file=sys.stderr)


@contextmanager
def _copy_of_head() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "-q", str(ROOT), folder], check=True)
        yield Path(folder)


def _apply(change: Change, copy: Path) -> None:
    files = [path for pattern in change.files for path in sorted(copy.glob(pattern))]
    found = [path for path in files if change.old in path.read_text()]
    number = sum(path.read_text().count(change.old) for path in found)
    if not found or (number > 1 and not change.is_everywhere):
        raise SystemExit(f"{change.name}: text must be found once; expected 1, got {number}")
    for path in found:
        path.write_text(path.read_text().replace(change.old, change.new))


def _goldentrace(copy: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "COLUMNS": str(COLUMNS),
        "FORCE_COLOR": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", *arguments],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{arguments[0]}: must judge the change; expected 0 or 1, got {done}")
    return done.stdout


def _scenario_names(change: Change, copy: Path) -> list[str]:
    words = (line.split() for line in _goldentrace(copy, "list").splitlines())
    return [name for name, *_ in filter(None, words) if change.scenarios in name and "." in name]


def _draw_terminal(change: Change, copy: Path, names: list[str]) -> None:
    text = Text.from_ansi(_goldentrace(copy, "gate", *names))
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(text)
        console.save_svg(str(IMAGES / f"{change.name}.svg"), title="goldentrace gate")


def _draw_page(change: Change, copy: Path, names: list[str]) -> None:
    page = copy / "report.html"
    _goldentrace(copy, "report", "--out", str(page), *names)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        view = browser.new_page(viewport={"width": 1280, "height": 860})
        view.goto(page.as_uri())
        view.screenshot(path=str(IMAGES / f"{change.name}.png"))
        view.locator("#memory").screenshot(path=str(IMAGES / f"{change.name}-memory.png"))
        view.locator("#timeline").screenshot(path=str(IMAGES / f"{change.name}-transfers.png"))
        browser.close()


if __name__ == "__main__":
    main()
