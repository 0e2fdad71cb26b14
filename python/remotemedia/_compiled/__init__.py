"""Python functions that are generated for chains of plain nodes."""
