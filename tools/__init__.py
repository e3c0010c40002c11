"""The command line: gate, recording, regeneration and benchmarks of golden traces."""
