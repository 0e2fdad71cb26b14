"""Streaming nodes, which iterate over the nodes before them."""
