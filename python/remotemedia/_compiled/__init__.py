"""Python functions that are generated for chains of nodes."""
