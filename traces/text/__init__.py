"""Text of causes: the same on a terminal, in every report, and from the pytest fixture."""
