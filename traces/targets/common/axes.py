"""What configurations of every target are made of: axes, and the name that follows from them."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

_POLICIES = {"write_through": "wt", "write_through_selective": "wts", "write_back": "wb"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioAxes(ABC):
    """One named configuration of a stack; a target adds the axis of its draft pools.

    Attributes:
        builder: stack builder or entry under test.
        model: key of the target's ``MODELS``.
        layout: host layout.
        io_backend: ``kernel`` or ``direct``.
        write_policy: controller's write policy.
        page_size: tokens a page.
        sizing: host pool size by ``ratio`` or by ``gb``.
        storage_backend: name of one, or None.
        groups: key of the target's ``GROUPS``.
    """

    builder: str
    model: str
    layout: str
    io_backend: str
    write_policy: str
    page_size: int
    sizing: str
    storage_backend: str | None
    groups: str

    @property
    @abstractmethod
    def short_name(self) -> str:
        """What stands for the builder in the name."""

    @property
    @abstractmethod
    def draft_name(self) -> str:
        """What the name says of draft pools; empty without any."""

    @property
    def name(self) -> str:
        """File name of the golden: every axis that the builder's name does not imply."""
        parts = [
            self.short_name,
            self.model,
            self.layout,
            self.io_backend,
            _POLICIES[self.write_policy],
            f"p{self.page_size}",
            self.sizing,
            self.groups,
            self.storage_backend or "",
            self.draft_name,
        ]
        return ".".join(part for part in parts if part)

    @property
    def config(self) -> dict[str, Any]:
        """Every axis with its value, in order of declaration."""
        return asdict(self)
