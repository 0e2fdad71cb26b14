"""Streams of inputs and outputs through the stages of a session or run."""
