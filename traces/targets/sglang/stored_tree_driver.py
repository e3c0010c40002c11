"""Driver of a release's tree with storage, whose threads work while the driver waits for them."""

import threading
from collections.abc import Mapping
from types import MappingProxyType

from typing_extensions import override

from traces.targets.sglang.storage.threads import StorageThreads, storage_working
from traces.targets.sglang.tree_driver import TokenSequence, TreeDriver

# What threads are waited for; the name of a script's step.
WORK = "tree storage"
# One settles what the device has finished, one what storage has, and one what that began.
_ROUNDS = 3


class StoredTreeDriver(TreeDriver):
    """Drives a tree with storage: work is over when the threads of storage are quiet, too.

    For ``thread_errors`` see
    :func:`~traces.targets.sglang.storage.threads.capture_thread_errors`.
    """

    thread_errors: Mapping[threading.Thread, str] = MappingProxyType({})

    @override
    def insert(self, sequence: TokenSequence) -> None:
        super().insert(sequence)
        # What is stored while its copy to the host is still on its way has other bytes.
        self.poll()

    @override
    def insert_again(self, sequence: TokenSequence) -> None:
        super().insert_again(sequence)
        self.poll()

    @override
    def flush(self) -> None:
        # It ends the threads, and waits for that.
        with storage_working():
            super().flush()

    def detach(self) -> tuple[bool, str]:
        """Detach storage while its threads have what they were given, and have not begun on it.

        Return whether the tree says that it is detached, and why not.
        """
        threads = StorageThreads(self._stack.controller, self.thread_errors)
        threads.hold(WORK)
        with threads.working_once_joined():
            done, why = self._cache.detach_storage_backend()
        return bool(done), str(why)

    def synchronize(self) -> None:
        """Wait for the device alone."""
        self._device.synchronize()

    @override
    def acknowledge(self) -> None:
        for _ in range(_ROUNDS):
            super().acknowledge()
            self._settle()

    @override
    def poll(self) -> None:
        # What storage has finished by now would depend on the machine.
        self._settle()
        super().poll()

    def _settle(self) -> None:
        StorageThreads(self._stack.controller, self.thread_errors).settle(WORK)
