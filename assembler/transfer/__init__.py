"""Row transfers between host pools and device pools, by address or by tensor slices."""
