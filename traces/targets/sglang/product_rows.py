"""Assemblies of one entry point with the pools of one family: drafts of every kind, every layout.

Entry point and family are the same in all rows of a scenario, which have every pair of the other
axes that decide how a stack is wired. The remaining axes rotate from row to row, and no row has
traffic. Nothing here imports torch or sglang.
"""

from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from traces.targets.common.covering import Row, covering_rows, implies
from traces.targets.sglang.families import FAMILIES, FAMILY_OF
from traces.targets.sglang.models import MODELS
from traces.targets.sglang.scenarios import (
    AXES,
    BUILDERS,
    NO_DRAFT,
    OWN_BACKEND,
    PACKED_DRAFT,
    SHORT_NAMES,
    SIDECAR_DRAFT,
    SglangScenario,
    allowed_values,
    takes_draft,
)

OWN_POOL, BARE_POOL, STATEFUL_POOL = "own", "bare", "stateful"
"""A draft pool like the target's, wrapper included; the pool inside such a wrapper; and one like
the target's beside which a draft has states of its own."""
FULL_WINDOWS = "full_windows"
"""A draft pool with windows that keep every token, numbered by the slots of full attention."""
_OTHER_FAMILIES = ("mha", "mla", "dsa", "swa")
_OTHER_FAMILIES_OF_BUILDERS = _OTHER_FAMILIES[:2]
_UNIFIED = "attach_hybrid_pool_to_unified_cache"
_STRENGTH_OF_A_SCENARIO = 2
# Of these every family has rows, whatever staging a release prepares for the others.
_LAYOUT, _BACKEND = "page_first_direct", "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRow(SglangScenario):
    """One assembly.

    Attributes:
        draft_pool: the kind of draft pool, or the family of another one.
        pool_class: class of the device pool in place of the family's; empty for that one.
        variant: name of what differs in the pools of the target; empty for nothing.
    """

    draft_pool: str
    pool_class: str = ""
    variant: str = ""

    @property
    def step(self) -> str:
        """Name of the step that assembles the row."""
        if name := self.pool_class or self.variant:
            return name if self.draft == NO_DRAFT else f"{name}.{self.draft}"
        parts = [self.layout, self.io_backend, f"p{self.page_size}", self.sizing, self.groups]
        if self.draft != NO_DRAFT:
            parts += [self.draft, f"{self.draft_pool}_pool"]
        return ".".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductScenario(SglangScenario):
    """All assemblies of one entry point with the pools of one family."""

    family: str

    @property
    @override
    def name(self) -> str:
        return f"product.{self.short_name}.{self.family}"

    @property
    @override
    def has_traffic(self) -> bool:
        return False

    def rows(self) -> list[ProductRow]:
        """Return the assemblies, each step once."""
        rows = [ProductRow(builder=self.builder, **row) for row in _rows(self.builder, self.model)]
        return list({row.step: row for row in rows}.values())

    @property
    def has_strategies(self) -> bool:
        """True where a strategy of the release stands behind the entry point."""
        return self.builder == _UNIFIED

    def further_rows(self, row: ProductRow) -> list[ProductRow]:
        """Return rows with each model of the family that no entry point has a scenario for."""
        known = {model for models in BUILDERS.values() for model in models}
        # Of models that are one model with another dtype, layers and heads are known.
        others = [
            name
            for name in FAMILIES[self.family].models
            if name not in known and MODELS[name].layer_span != MODELS[self.model].layer_span
        ]
        drafts = (
            [NO_DRAFT, PACKED_DRAFT] if PACKED_DRAFT in takes_draft(self.builder) else [NO_DRAFT]
        )
        return [
            replace(row, model=name, variant=name, draft=draft, layout=_LAYOUT, io_backend=_BACKEND)
            for name in others
            for draft in drafts
        ]

    def linked_rows(self) -> list[ProductRow]:
        """Return rows for an external linker: each model of the family, without and with drafts."""
        first = next(row for row in self.rows() if row.draft == NO_DRAFT)
        own = [name for name in BUILDERS[self.builder] if FAMILY_OF[name] is FAMILY_OF[self.model]]
        drafts = [
            (NO_DRAFT, OWN_POOL),
            (PACKED_DRAFT, OWN_POOL),
            (SIDECAR_DRAFT, _OTHER_FAMILIES[0]),
        ]
        return [
            replace(first, model=name, draft=draft, draft_pool=pool)
            for name in own
            for draft, pool in drafts
        ]


def product_scenarios() -> list[ProductScenario]:
    """Return one scenario for every entry point and family that it accepts."""
    found: dict[tuple[str, str], ProductScenario] = {}
    names = {family: name for name, family in FAMILIES.items()}
    for builder, models in BUILDERS.items():
        for model in models:
            family = names[FAMILY_OF[model]]
            axes = {axis: values[0] for axis, values in allowed_values(model).items()}
            rest = {"write_policy": AXES["write_policy"][0], "storage_backend": None}
            scenario = ProductScenario(
                **{**axes, **rest, "builder": builder, "model": model, "family": family}
            )
            found.setdefault((builder, family), scenario)
    return sorted(found.values(), key=lambda one: (list(SHORT_NAMES).index(one.builder), one.name))


def _rows(builder: str, model: str) -> list[Row]:
    """Return the axes of the assemblies of a builder with a model's pools."""
    allowed = {**allowed_values(model), "draft": takes_draft(builder)}
    own = {id(FAMILIES[name]): name for name in _OTHER_FAMILIES}.get(id(FAMILY_OF[model]))
    others = _OTHER_FAMILIES if builder == _UNIFIED else _OTHER_FAMILIES_OF_BUILDERS
    pools = [OWN_POOL, *(name for name in others if name != own)]
    if any(isinstance(name, str) for name in FAMILY_OF[model].inner_pools.values()):
        pools.insert(1, BARE_POOL)
    if MODELS[model].state_layers and PACKED_DRAFT in allowed["draft"]:
        pools.append(STATEFUL_POOL)
    if MODELS[model].swa_layers and PACKED_DRAFT in allowed["draft"]:
        pools.append(FULL_WINDOWS)
    wired: dict[str, list[Any]] = {
        "draft": allowed["draft"],
        "draft_pool": pools,
        "layout": allowed["layout"],
    }
    constraints = [
        implies("draft", [NO_DRAFT], "draft_pool", [OWN_POOL]),
        # The states of a sidecar are those of its own server; its windows have slots of their own.
        implies("draft_pool", [STATEFUL_POOL, FULL_WINDOWS], "draft", [PACKED_DRAFT]),
    ]
    strength = min(_STRENGTH_OF_A_SCENARIO, sum(len(values) > 1 for values in wired.values()))
    wired_rows = covering_rows(
        {axis: values for axis, values in wired.items() if len(values) > 1},
        constraints=constraints if len(wired["draft"]) > 1 else [],
        presets=[],
        strength=max(1, strength),
    )
    single = {axis: values[0] for axis, values in wired.items() if len(values) == 1}
    return [
        {"model": model, **_rotated(builder, number, allowed, {**single, **row})}
        for number, row in enumerate(wired_rows)
    ]


def _rotated(builder: str, number: int, allowed: dict[str, list[Any]], row: Row) -> Row:
    """Return a row with the axes that rotate: what they are decides no branch of the wiring."""
    by_layout = {"page_first_direct": ["direct"], "layer_first": AXES["io_backend"]}
    backends = by_layout.get(row["layout"], ["kernel"])
    possible = [one for one in backends if one in allowed["io_backend"]]
    # Only this entry point spreads pages over decode ranks.
    ranks = allowed["groups"] if builder == _UNIFIED else _without_dcp(allowed["groups"])
    groups = ranks[number % len(ranks)]
    pages = [64] if groups == "tp8dcp2" else allowed["page_size"]
    return {
        **row,
        "groups": groups,
        "io_backend": possible[number % len(possible)],
        "page_size": pages[number % len(pages)],
        "sizing": allowed["sizing"][number % len(allowed["sizing"])],
        "write_policy": AXES["write_policy"][number % len(AXES["write_policy"])],
        # Named and not opened here: how host memory is allocated follows from it.
        "storage_backend": OWN_BACKEND
        if builder == _UNIFIED and row["draft"] != NO_DRAFT
        else None,
    }


def _without_dcp(groups: list[str]) -> list[str]:
    return [name for name in groups if name != "tp8dcp2"]
