"""The worker process of a campaign: runs of mutants, fingerprints, call logs."""
