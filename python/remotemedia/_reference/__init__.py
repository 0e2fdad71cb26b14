"""The reference executor: what a run means, in plain Python."""
