"""Device pools: where attention layers read and write keys, values and states."""
