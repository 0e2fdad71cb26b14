"""Nodes and pipelines as users describe them: `remotemedia.core.node`, `remotemedia.core.pipeline`."""
