"""Reads torch modules, by running them once without arithmetic."""
