"""Runs over a list or stream of inputs."""
