"""Searching: a supernet's choices, what they cost, and the loss that keeps a search on its target."""
