"""Worker processes: sending items to them, and starting them."""
