"""What is to run: options, the graph of nodes, manifests, and what kind of node an object is."""
