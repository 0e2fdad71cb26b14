"""Open pipelines: sessions, runs, and the blocks and streams of the older names."""
