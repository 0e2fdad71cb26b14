"""Measures the figures of `docs/performance.md`, each beside a baseline that is measured in the same run."""
