"""The types of items, from the annotations of nodes: their JSON schemas, and their instances from JSON."""
