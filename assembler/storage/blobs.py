"""The interface of a place that keeps named bytes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar


class BlobStore(ABC):
    """Keeps bytes by name, whole or not at all; several processes may share one.

    Every method raises StorageError when the store fails, StorageTimeoutError when it does not
    answer in time.

    Attributes:
        backend: name of the storage backend.
    """

    backend: ClassVar[str]

    @abstractmethod
    def put(self, name: str, parts: Sequence[memoryview]) -> None:
        """Keep the parts, one after the other, under a name; what has that name already may stay.

        The bytes are copied before this returns.
        """

    @abstractmethod
    def get(self, name: str) -> memoryview | None:
        """Return the bytes of a name, or None where there are none."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether there are bytes of a name."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Forget a name; do nothing where there is none."""

    @abstractmethod
    def clear(self) -> None:
        """Forget every name."""

    @abstractmethod
    def close(self) -> None:
        """Give resources back; the bytes stay."""
