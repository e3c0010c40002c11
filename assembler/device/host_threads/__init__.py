"""TODO assembler/device/host_threads."""
