"""Pool families of the native target: their models, pools, axis values and scenarios.

Nothing here imports torch or a target, so that listing scenarios is instant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from traces.targets.common.covering import Row
from traces.targets.common.models import SHARED_MODELS, ModelShape
from traces.targets.common.scenario import LAYOUTS

if TYPE_CHECKING:
    from assembler.device.base import Device
    from traces.targets.native.device_side import (
        MakeTokenPool,
        NativeDevicePools,
        NativeGeometry,
    )

AXES_OF_A_ROW = (
    *("builder", "layout", "io_backend", "write_policy", "page_size"),
    *("sizing", "storage_backend", "groups", "draft"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FamilyEntry:
    """A family of device pools, complete: nothing else names it.

    Attributes:
        models: its models by name.
        make_pools: builds the device side of a scenario.
        make_draft_pool: builds the pool of a draft's layer; None where scenarios have no draft.
        layouts: host layouts that its rows can have.
        page_sizes: page sizes that its rows can have.
        is_sharded: whether row shapes are those of one of several ranks.
        rows: values of ``AXES_OF_A_ROW`` for each scenario that every model of it has beside the
            covering array.
        known_findings: reasons why findings of an audit about its pools stay, by key of the
            finding.
    """

    models: Mapping[str, ModelShape]
    make_pools: "Callable[[NativeGeometry, Device], NativeDevicePools]"
    make_draft_pool: "MakeTokenPool | None" = None
    layouts: tuple[str, ...] = LAYOUTS[:3]
    page_sizes: tuple[int, ...] = (16, 64, 1)
    is_sharded: bool = False
    rows: tuple[tuple[Any, ...], ...] = ()
    known_findings: Mapping[str, str] = field(default_factory=dict)

    def scenario_rows(self) -> list[Row]:
        """Return the axes of its scenarios beside the covering array."""
        return [
            {"model": model, **dict(zip(AXES_OF_A_ROW, row, strict=True))}
            for model in self.models
            for row in self.rows
        ]


def shared_models(*names: str) -> dict[str, ModelShape]:
    """Return models that other targets have as well, by name."""
    return {name: SHARED_MODELS[name] for name in names}


def blind_spots(callee: str, *parameters: str, reason: str) -> dict[str, str]:
    """Return the findings that parameters have one value in all scenarios, with their reason."""
    return {f"parameter_blind_spot {callee}.{parameter}": reason for parameter in parameters}


def always_page_locked(host_pool: str) -> dict[str, str]:
    """Return the finding that a class of host pools is page-locked in all scenarios."""
    reason = "no builder has an option for it: host pools are always page-locked"
    return blind_spots(host_pool, "pin_memory", reason=reason)
