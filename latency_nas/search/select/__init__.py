"""Selecting architectures from a cost plan."""
