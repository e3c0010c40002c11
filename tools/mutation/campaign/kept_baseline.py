"""Results of the unchanged code, kept for the next campaign on the same code."""

import os
import pickle
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from tools.mutation.campaign.driver import BaselineRun, CampaignPlan
from tools.sides.environments.cache import cache_folder

KEPT_MAX = 8
_CHECKOUT = Path(__file__).resolve().parents[3]
# What decides a recording, its state and its lines.
_OWN_SOURCES = ("traces/**/*.py", "assembler/**/*.py", "tools/mutation/worker/state_*.py")
# Compare and judge recordings, and take no part in making them.
_JUDGES = ("traces/diff/", "traces/audit/")


def kept_path(plan: CampaignPlan) -> Path:
    """Return the file for the results of a plan: of its code, its scenarios and this machine."""
    found = sha256(plan.digest.encode())
    found.update(f"{sys.version} {version('torch')} {plan.settings}".encode())
    for pattern in _OWN_SOURCES:
        for path in sorted(_CHECKOUT.glob(pattern)):
            if not path.relative_to(_CHECKOUT).as_posix().startswith(_JUDGES):
                found.update(path.read_bytes())
    return cache_folder().parent / "mutation" / f"{found.hexdigest()[:16]}.pickle"


def read_kept(path: Path) -> BaselineRun | None:
    """Return kept results; None where there are none, or where they cannot be read."""
    try:
        found = pickle.loads(path.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, TypeError):
        return None
    return found if isinstance(found, BaselineRun) else None


def keep(path: Path, baseline: BaselineRun) -> None:
    """Keep results, whole or not at all; the oldest are removed when there are too many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(pickle.dumps(baseline))
    part.replace(path)
    by_age = sorted(path.parent.glob("*.pickle"), key=lambda one: one.stat().st_mtime)
    for old in by_age[:-KEPT_MAX]:
        old.unlink(missing_ok=True)
