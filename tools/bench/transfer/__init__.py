"""Speed of transfers between device pools and host pools, against the speed of a pinned copy."""
