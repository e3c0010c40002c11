"""Moving rows between pools: what a row is, which rows a slot means, how bytes travel."""
