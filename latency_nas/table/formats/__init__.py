"""Formats of tables. Each format has a file."""
