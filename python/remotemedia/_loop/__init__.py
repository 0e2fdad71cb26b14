"""Pipelines whose nodes run on the caller's event loop: one coroutine, without threads or queues."""
