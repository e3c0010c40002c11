"""The cache controller: queues, streams, acknowledgements."""
