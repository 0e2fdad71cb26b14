"""The Python part of the command line: loads pipelines, reports errors, checks."""
