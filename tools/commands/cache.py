"""The ``cache`` commands: list and remove the kept runs that make later gates faster."""

import json
import shutil
from datetime import UTC, datetime

import typer

from tools import options
from tools.sides.environments.cache import compiled_folder, recordings_folder
from tools.sides.kept.store import LIMIT_BYTES, KeptFolder, RunStore
from traces.text.phrases import pluralise

cache = typer.Typer(name="cache", help="Kept runs of earlier gates.", rich_markup_mode=None)

_MEGABYTE = 1024**2


@cache.command("list")
def list_kept(*, as_json: options.JsonOption = False) -> None:
    """Show the trees whose runs are kept, the last used one first, and their size."""
    store = RunStore(recordings_folder())
    folders = store.list_folders()
    if as_json:
        print(
            json.dumps({"folder": str(store.root), "trees": list(map(_fields, folders))}, indent=2)
        )
        return
    size = sum(folder.size for folder in folders)
    limit = f"{LIMIT_BYTES / _MEGABYTE:.0f} MB at most"
    print(f"{store.root}: {pluralise(len(folders), 'tree')}, {size / _MEGABYTE:.1f} MB, {limit}")
    for folder in folders:
        fields = _fields(folder)
        runs = pluralise(folder.run_num, "run")
        print(f"  {fields['target']} {fields['side']}  {runs}  used {fields['used']}")


@cache.command("clear")
def clear_kept() -> None:
    """Remove all kept runs and compiled modules; downloaded releases stay."""
    store = RunStore(recordings_folder())
    number = len(store.list_folders())
    store.clear()
    shutil.rmtree(compiled_folder(), ignore_errors=True)
    print(f"{store.root}: removed {pluralise(number, 'tree')}, and all compiled modules")


def _fields(folder: KeptFolder) -> dict[str, str | int]:
    return {
        "target": folder.tree.target,
        "side": folder.tree.side,
        "release": folder.tree.release,
        "runs": folder.run_num,
        "bytes": folder.size,
        "used": datetime.fromtimestamp(folder.used, UTC).isoformat(timespec="seconds"),
        "path": str(folder.path),
    }
