"""Descriptions of pipelines: options, graphs, manifests and kinds of nodes."""
