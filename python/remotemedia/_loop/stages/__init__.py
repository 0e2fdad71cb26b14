"""The nodes of one stage: their locks and lifecycle, and how items pass through them."""
