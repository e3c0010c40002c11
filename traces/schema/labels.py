"""Labels of objects and calls in a trace: a name and a running number."""


def object_label(name: str, ordinal: int) -> str:
    """Return the label of an object or a call: ``MLATokenToKVPoolHost#1``."""
    return f"{name}#{ordinal}"


def name_of_label(label: str) -> str:
    """Return the name in a label, ``MLATokenToKVPoolHost``; rules read ``Trace.objects``."""
    return label.rpartition("#")[0]
