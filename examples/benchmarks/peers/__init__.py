"""The other ways to do the same work: one module a peer, each with functions that give a `compare.Side`."""
