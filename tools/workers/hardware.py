"""Device, driver and versions of a worker process. The functions import torch."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

_DRIVER_QUERY = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
_DRIVER_TIMEOUT_SECONDS = 30.0


def read_provenance(device: str) -> dict[str, str]:
    """Return device and versions of this process, as a golden's provenance has them."""
    import torch

    return {
        **describe_hardware(device),
        "goldentrace": _version("goldentrace"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def describe_hardware(device: str) -> dict[str, str]:
    """Return kind and name of a device, GPU driver and CUDA version, as text.

    ``device`` of the result is empty when this machine has no such GPU; ``driver`` and ``cuda`` are
    empty without a GPU, and ``driver`` also where ``nvidia-smi`` does not print it.
    """
    import torch

    kind, _, ordinal = device.partition(":")
    number = int(ordinal) if kind == "cuda" and ordinal else 0
    is_present = kind in ("auto", "cuda") and number < torch.cuda.device_count()
    if is_present:
        return {
            "device": "cuda",
            "device_name": torch.cuda.get_device_name(number),
            "driver": driver_version(_DRIVER_QUERY),
            "cuda": str(torch.version.cuda),
        }
    simulated = {"auto": "sim", "cuda": ""}.get(kind, kind)
    return {"device": simulated, "device_name": platform.machine(), "driver": "", "cuda": ""}


def has_gpu(device: str) -> bool:
    """Return whether runs on a device, named as on the command line, use a GPU."""
    import torch

    kind = device.partition(":")[0]
    return kind == "cuda" or (kind == "auto" and torch.cuda.is_available())


def driver_version(command: tuple[str, ...]) -> str:
    """Return the first line that a command prints; empty when it cannot be run or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_DRIVER_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else ""


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
