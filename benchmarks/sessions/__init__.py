"""Open sessions: calls, streams, stages, and many of them at once."""
