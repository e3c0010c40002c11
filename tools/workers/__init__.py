"""Worker processes: protocol, pool and worker classes."""
