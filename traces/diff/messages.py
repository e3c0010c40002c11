"""Says a cause in one sentence."""

from collections.abc import Sequence

from traces.diff.compare.arguments import ArgumentChange
from traces.diff.differences import Difference
from traces.schema.model import Call
from traces.schema.verdict import Kind

_ARGUMENT_TEXTS = {
    Kind.ARGUMENT_DROPPED: "no longer passes {name} to {callee}",
    Kind.ARGUMENT_ADDED: "now passes {name} to {callee}",
    Kind.ARGUMENT_CHANGED: "passes another {name} to {callee}",
    Kind.PARAMETER_REMOVED: "calls {callee}, which no longer has the parameter {name}",
    Kind.PARAMETER_ADDED: "calls {callee}, which has the new parameter {name}",
}
_DIFFERENCE_TEXTS = {
    Kind.CALL_REMOVED: "is no longer made",
    Kind.CALL_ADDED: "is new",
    Kind.CALL_REORDERED: "happen elsewhere or in another order",
    Kind.POOL_REMOVED: "has no buffers any more",
    Kind.POOL_ADDED: "is new",
    Kind.TRANSFER_REMOVED: "no longer happens",
    Kind.TRANSFER_ADDED: "is new",
    Kind.ORDER_EDGE_REMOVED: "no longer happens",
    Kind.ORDER_EDGE_ADDED: "is new",
}


def argument_message(
    root: ArgumentChange, consumer: Call, enclosing: Sequence[Call], *, swapped: str
) -> str:
    """Return what the caller does, and which object it concerns in the end."""
    caller = enclosing[0].callee if enclosing else "the scenario"
    callee = root.pair.head.callee
    if root.by_default:
        text = f"{callee} has another default for {root.parameter}"
    else:
        text = f"{caller} {_ARGUMENT_TEXTS[root.kind].format(name=root.parameter, callee=callee)}"
    if swapped:
        text += f": {swapped}"
    if not root.effective:
        return f"{text}, without effect on its value."
    return f"{text}." if consumer.callee == callee else f"{text}; it was for {consumer.callee}."


def difference_message(source: Difference, callee: str | None) -> str:
    """Return what differs although all arguments are as they were."""
    text = f"{source.where} {_DIFFERENCE_TEXTS.get(source.kind, 'differs')}"
    if callee and callee not in source.where:
        text += f", in {callee}"
    return f"{text}."
