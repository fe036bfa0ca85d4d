"""Torch modules: read by running them once without arithmetic."""
