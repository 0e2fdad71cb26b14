"""Nodes that come with RemoteMedia."""
