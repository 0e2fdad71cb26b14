"""The reference executor: the semantics of a run, in plain Python."""
