"""Open pipelines: sessions, runs, and the blocks and streams of older names."""
