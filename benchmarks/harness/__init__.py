"""What all benchmarks use: taking samples, comparing them, and printing the results."""
