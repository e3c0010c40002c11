"""The storage backends that a release registers itself: opening each of them, one after another."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.discovery import find_part
from traces.targets.sglang.pageable import pageable
from traces.targets.sglang.signature_caller import accepted_arguments
from traces.targets.sglang.storage import LOADER
from traces.targets.sglang.storage.client_store import ClientStore, KnownBuffer
from traces.targets.sglang.storage.clients import client_packages
from traces.targets.sglang.storage.file_observer import FileObserver
from traces.targets.sglang.storage.usage_reports import (
    pool_settings,
    rank_namespace,
    report_storage_use,
)

_FACTORY_MODULE = "sglang.srt.mem_cache.storage.backend_factory"
_HIDDEN_PATH = "DIRECTORY"
# Where Linux lists the network cards of a machine; a backend reads the folder without a check.
_CARDS = "/sys/class/infiniband"
# Settings of every backend in one mapping: a backend reads those that it knows.
_SETTINGS: dict[str, Any] = {
    "master_server_address": "127.0.0.1:50051",
    "local_hostname": "127.0.0.1",
    "metadata_server": "P2PHANDSHAKE",
    "protocol": "tcp",
    "device_name": "",
    "global_segment_size": 1 << 20,
    "check_server": False,
    "manager_address": "127.0.0.1:50051",
    "endpoint": "http://127.0.0.1:8333",
    "bucket": "pages",
    # One worker: pages are stored in one order.
    "max_workers": 1,
    "sim_write_gbps": 0,
    "sim_op_latency_us": 0,
    "use_mock_hf3fs_client": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBackend:
    """A backend that a controller has opened."""

    name: str
    store: ClientStore  # pages of its client; empty where the client is no model
    files: FileObserver  # pages in files of its own

    def is_observed(self) -> bool:
        """Return whether its pages are observed; a backend may keep none."""
        return self.store.has_pages or self.files.has_pages()

    def stored_keys(self) -> tuple[str, ...]:
        """Return the keys of the pages that can be taken away, in the order of their storing."""
        return (*self.store.keys, *self.files.keys)

    def missing_page(self, key: str) -> AbstractContextManager[None]:
        """Take a page away while the block runs."""
        keeper = self.store if key in self.store.keys else self.files
        return keeper.missing_page(key)


class BackendRefusedError(Exception):
    """A backend that cannot be opened; the message says why."""


def registered_backends() -> tuple[str, ...]:
    """Return the names of the backends that the release registers, in its order."""
    factory = find_part(_FACTORY_MODULE, "StorageBackendFactory")
    return tuple(getattr(factory, "_registry", ()))


@contextmanager
def page_files(name: str) -> Iterator[FileObserver]:
    """Yield an observer of a registered backend's files, in a folder that exists in the block."""
    with tempfile.TemporaryDirectory(prefix="goldentrace-") as folder:
        yield FileObserver(name, Path(folder))


@contextmanager
def open_backend(
    stack: AssembledStack,
    files: FileObserver,
    *,
    model_name: str,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[OpenBackend]:
    """Open a registered backend with every host pool of a stack while the block runs.

    It is the one whose ``files`` are observed, and finds those that are there. It is given
    ``settings`` beside those that all backends are given.

    Raises:
        BackendRefusedError: it cannot be imported or constructed, or a pool is refused.
    """
    controller = stack.controller
    name, folder = files.backend, files.directory
    store = ClientStore(name, _host_buffers(stack))
    with ExitStack() as opened:
        opened.enter_context(patch.dict(os.environ, _write_settings(folder)))
        opened.enter_context(client_packages(store))
        given = {
            "storage_backend": name,
            "prefetch_threshold": 1,
            "model_name": model_name,
            "storage_backend_extra_config": {
                **_SETTINGS,
                "file_storage_path": str(folder),
                **settings,
            },
            "host_pools": getattr(stack.group, "entries", None),
        }
        opened.enter_context(files.observing_descriptors())
        try:
            with _without_cards(), pageable("zeros"):
                controller.attach_storage_backend(
                    **accepted_arguments(controller.attach_storage_backend, given)
                )
        except Exception as error:
            reason = _reason(error).replace(str(folder), _HIDDEN_PATH)
            report_storage_use(operation="refuse", pool="", key=reason, backend=name)
            raise BackendRefusedError(reason) from error
        opened.callback(controller.detach_storage_backend)
        _report_open(controller, name)
        for pool, entry in entries_of(stack.group).items():
            geometry = pool_settings(entry.host_pool)
            report_storage_use(operation="open", pool=pool, key=geometry, backend=name)
        backend = controller.storage_backend
        if isinstance(getattr(backend, "file_path", None), str) and hasattr(backend, "set"):
            opened.enter_context(files.observing(backend))
        yield OpenBackend(name=name, store=store, files=files)


def _write_settings(folder: Path) -> dict[str, str]:
    """Write the configuration files of backends; return the variables that name them."""
    shared_file = {"file_path_prefix": str(folder / "pages"), "file_size": 1 << 24}
    (folder / "settings.json").write_text(json.dumps({**shared_file, "numjobs": 1, "entries": 8}))
    remote = {"remote_url": "eic://127.0.0.1", "eic_log_dir": str(folder)}
    (folder / "settings.yaml").write_text(json.dumps(remote))
    return {
        "SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR": str(folder),
        "SGLANG_HICACHE_HF3FS_CONFIG_PATH": str(folder / "settings.json"),
        "SGLANG_HICACHE_NIXL_BACKEND_PLUGIN": "OBJ",
        "AWS_DEFAULT_BUCKET": "pages",
        "REMOTE_EIC_YAML": str(folder / "settings.yaml"),
    }


@contextmanager
def _without_cards() -> Iterator[None]:
    """Have the machine list no network cards, whatever it has."""
    exists, listed = os.path.exists, os.listdir

    def exists_or_cards(path: Any) -> bool:  # noqa: ANN401 - any kind of path
        return path == _CARDS or exists(path)

    def list_no_cards(path: Any = ".") -> Any:  # noqa: ANN401
        return [] if path == _CARDS else listed(path)

    with (
        patch.object(os.path, "exists", exists_or_cards),
        patch.object(os, "listdir", list_no_cards),
    ):
        yield


def _report_open(controller: Any, name: str) -> None:  # noqa: ANN401
    left_out = {**LOADER, **_SETTINGS, "file_storage_path": ""}
    namespace = rank_namespace(controller.storage_config, left_out=left_out)
    report_storage_use(operation="open", pool="", key=namespace, backend=name)


def _host_buffers(stack: AssembledStack) -> Iterator[KnownBuffer]:
    entries = entries_of(stack.group).items()
    pools = {name: entry.host_pool for name, entry in entries} or {"KV": stack.group}
    for name, pool in pools.items():
        for buffer in buffers_of(pool):
            if not buffer.tensor.is_cuda and buffer.tensor.is_contiguous():
                yield KnownBuffer.of(buffer.tensor, name=f"{name}.{buffer.name}")


def _reason(error: BaseException) -> str:
    """Return the innermost reason: a release wraps the import that failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())
