"""The program of a worker process, and the pickling of objects for it."""
