"""Nodes and pipelines as users describe them."""
