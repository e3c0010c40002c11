"""The recorder: probes on functions of a target, and what they observe as records of a trace."""
