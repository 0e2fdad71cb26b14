"""Sessions whose engine is the event loop of their caller."""
