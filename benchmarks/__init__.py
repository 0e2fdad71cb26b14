"""The benchmarks of `docs/performance.md`, each with a baseline that is measured in the same run."""
