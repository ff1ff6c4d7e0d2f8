"""The implementations to compare with: one module per peer, with functions that return a `compare.Side`."""
