"""The storage tier of a release, played on a backend that keeps pages in memory.

The release opens the backend itself, as one that only its configuration names; so it is told its
ranks, sizes and settings. What it asks for is reported page by page.
"""

from traces.targets.sglang.storage.usage_reports import report_storage_use

__all__ = ["BACKEND", "LOADER", "report_storage_use"]

BACKEND = "dynamic"
# What the release loads the class by; no part of what it is told.
LOADER = {
    "backend_name": "memory",
    "module_path": "traces.targets.sglang.storage.backend",
    "class_name": "MemoryStorage",
}
