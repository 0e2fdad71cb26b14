"""What the command line needs of Python: loading pipelines, reports of errors, checks."""
