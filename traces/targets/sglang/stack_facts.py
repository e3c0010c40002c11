"""Facts of an assembled stack that no call of its assembly shows: layers, and pools that follow."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from traces.schema.pools import PoolAnswer
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.callbacks import mapped_layers
from traces.targets.sglang.pool_answers import told_values

# More than the stages of a scenario have.
_LAYERS = 32
_POLICY = "hit_policy"


def stack_facts(stack: AssembledStack, *, step: str) -> Iterator[PoolAnswer]:
    """Yield the layers of every entry, and the pools that follow the slots of others."""
    for name, entry in entries_of(stack.group).items():
        layers = mapped_layers(entry.layer_mapper, layers=_LAYERS)
        yield told_values(step=step, holder=f"{step}:{name}", method="layer_mapper", values=layers)
    specs = getattr(stack.cache, "sidecar_pool_specs", None)
    if specs is not None:
        followed = [_followed(one) for one in specs]
        yield told_values(
            step=step, holder=f"{step}:tree", method="sidecar_pool_specs", values=followed
        )


def _followed(spec: Any) -> list[str]:  # noqa: ANN401 - a dataclass of the release
    """Return a pool, the one whose slots it follows, and how hits count unless as by default."""
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    followed = [spec.pool_name.value, spec.indices_from_pool.value]
    if _POLICY in defaults and spec.hit_policy != defaults[_POLICY]:
        followed.append(spec.hit_policy.value)
    return followed
