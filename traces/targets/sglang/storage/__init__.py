"""Storage backend of a release that keeps pages in memory and reports every operation.

The release loads and opens the backend itself, by the names in its own configuration.
"""

from traces.targets.sglang.storage.usage_reports import observe_storage_use, report_storage_use

__all__ = ["BACKEND", "LOADER", "NO_COPY", "observe_storage_use", "report_storage_use"]

BACKEND = "dynamic"
# Entries by which the release loads the class; left out of the recorded settings.
LOADER = {
    "backend_name": "memory",
    "module_path": "traces.targets.sglang.storage.backend",
    "class_name": "MemoryStorage",
}
# The setting by which a release hands out slots of its host pool instead of copies of pages.
NO_COPY = {"interface_v1": 1}
