"""The mutated parts of a target's tree."""

from pathlib import Path

from tools.errors import ToolError
from tools.mutation.generator import MutationScope
from tools.sides.targets import NATIVE, SGLANG

_CONSTRUCTORS = ("__init__", "__post_init__", "init_hicache")
# Checks move no byte: valid code never trips them. Their own tests trip every one.
_GUARDS = ("assembler/validation.py", "assembler/errors.py")
# Runs on a GPU only, where `pytest -m cuda` executes it.
_GPU_ONLY = ("assembler/device/cuda.py",)
_ORDERING = ("controller", "transfer", "device_pools", "host_pools", "cache")
_SGLANG_FILES = (
    "sglang/srt/mem_cache/hybrid_cache/hybrid_pool_assembler.py",
    "sglang/srt/mem_cache/hybrid_cache/hybrid_cache_controller.py",
    "sglang/srt/mem_cache/hicache_storage.py",
    "sglang/srt/managers/cache_controller.py",
)
DEVICES = {NATIVE: "cpu", SGLANG: "auto"}
"""Where mutants run unless a device is named.

Native ones run eagerly: that is faster, the traces are the same, and a lost order edge raises
nothing there, so that it stays silent.
"""


def scope_of(target: str, root: Path, *, is_generic: bool = False) -> MutationScope:
    """Return the mutated part of a target's tree under a root; validation for generic faults only.

    Raises:
        ToolError: the root does not hold the target.
    """
    scope = None
    if target == NATIVE:
        scope = _native(root, excluded=_GPU_ONLY if is_generic else _GPU_ONLY + _GUARDS)
    elif target == SGLANG:
        scope = _sglang(root)
    if scope is None or not scope.files:
        raise ToolError(str(root), "must hold the target", expected=target, got="none of it")
    return scope


def _native(root: Path, *, excluded: tuple[str, ...]) -> MutationScope:
    files = sorted((root / "assembler").rglob("*.py"))
    names = [file.relative_to(root).as_posix() for file in files]
    return MutationScope(
        files=tuple(name for name in names if name not in excluded),
        wiring_paths=("assembler/stacks/",),
        wiring_functions=_CONSTRUCTORS,
        ordering_paths=tuple(f"assembler/{folder}/" for folder in _ORDERING),
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
    )
