"""What a worker process runs, and how objects get there."""
