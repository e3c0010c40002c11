"""References to objects in encoded values: ``{"ref": "MLATokenToKVPoolHost#1"}``."""

from collections.abc import Mapping
from typing import Any


def with_classes(value: Any, classes: Mapping[str, str]) -> Any:  # noqa: ANN401 - any encoded value
    """Return a value with references to objects replaced by the classes of the objects.

    ``classes`` is ``Trace.objects``; an object that it does not have keeps its label.
    """
    if isinstance(value, dict):
        if value.keys() == {"ref"}:
            return {"ref": classes.get(value["ref"], value["ref"])}
        return {key: with_classes(item, classes) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_classes(item, classes) for item in value]
    return value
