"""Which parts of a target's tree are mutated."""

from pathlib import Path

from tools.errors import ToolError
from tools.mutation.generator import MutationScope
from tools.sides.targets import NATIVE, SGLANG

_CONSTRUCTORS = ("__init__", "__post_init__", "init_hicache")
# Guards move no byte: good code never trips them. Their own tests trip every one.
_GUARDS = ("assembler/validation.py", "assembler/errors.py", "assembler/validation_switch.py")
# Runs on a GPU only, where `pytest -m cuda` plays it.
_GPU_ONLY = ("assembler/device/cuda.py",)
_SGLANG_FILES = (
    "sglang/srt/mem_cache/hybrid_cache/hybrid_pool_assembler.py",
    "sglang/srt/mem_cache/hybrid_cache/hybrid_cache_controller.py",
    "sglang/srt/mem_cache/hicache_storage.py",
    "sglang/srt/managers/cache_controller.py",
)


def scope_of(target: str, root: Path) -> MutationScope:
    """Return what of a target's tree under a root is mutated.

    Raises:
        ToolError: there is none of it.
    """
    scope = _native(root) if target == NATIVE else _sglang(root) if target == SGLANG else None
    if scope is None or not scope.files:
        raise ToolError(str(root), "must hold the target", expected=target, got="none of it")
    return scope


def devices_of(target: str) -> dict[str, str]:
    """Return where mutants are played, by beginning of their path; the empty one is the rest.

    The simulated device's own mutants are played on it, all others eagerly: that is faster, the
    traces are the same, and what is not ordered ends nothing there and so stays silent.
    """
    if target == NATIVE:
        return {"": "cpu"}
    return {"": "auto"}


def _native(root: Path) -> MutationScope:
    files = sorted((root / "assembler").rglob("*.py"))
    names = [file.relative_to(root).as_posix() for file in files]
    return MutationScope(
        files=tuple(name for name in names if name not in _GUARDS + _GPU_ONLY),
        wiring_paths=("assembler/stacks/",),
        wiring_functions=_CONSTRUCTORS,
        ordering_paths=(
            "assembler/controller/",
            "assembler/transfer/",
            "assembler/device_pools/",
            "assembler/host_pools/",
            "assembler/cache/",
        ),
        excluded=(),
    )


def _sglang(root: Path) -> MutationScope:
    assembler = sorted((root / "sglang/srt/mem_cache").rglob("*pool_assembler*.py"))
    found = [file.relative_to(root).as_posix() for file in assembler]
    found += [file for file in _SGLANG_FILES if (root / file).is_file() and file not in found]
    return MutationScope(
        files=tuple(found),
        wiring_paths=tuple(file for file in found if "assembler" in file),
        wiring_functions=_CONSTRUCTORS,
        ordering_paths=tuple(found),
        excluded=(),
    )
