"""Nodes and pipelines: `remotemedia.core.node`, `remotemedia.core.pipeline`."""
