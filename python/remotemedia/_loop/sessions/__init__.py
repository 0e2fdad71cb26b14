"""Open pipelines on the loop: the line of their calls, and streams of inputs and outputs."""
