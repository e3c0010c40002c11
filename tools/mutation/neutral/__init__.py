"""Refactors that move no byte, applied in random stacks: every alarm is a false one."""
