"""Python functions that are generated for stages."""
