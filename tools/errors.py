"""Errors of the command line: one line for the user, exit code 2."""


class ToolError(Exception):
    """A request that cannot be carried out.

    Every message reads *subject: rule; expected X, got Y*, on one line.

    Attributes:
        subject: what is wrong: an option, a file, a scenario.
    """

    def __init__(self, subject: str, rule: str, *, expected: object, got: object) -> None:
        super().__init__(one_line(f"{subject}: {rule}; expected {expected}, got {got}"))
        self.subject = subject


def one_line(text: str) -> str:
    """Return the text with every run of white space, line ends included, made one space."""
    return " ".join(text.split())
