"""Random stacks of refactors that change no behaviour; every difference is a false alarm."""
