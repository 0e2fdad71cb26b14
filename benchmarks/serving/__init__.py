"""Benchmarks of `serve`: calls, WebSockets, and clients that do not behave."""
