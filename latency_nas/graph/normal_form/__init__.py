"""The normal form of graphs: what sources spell in several ops is one op, the same from every reader."""
