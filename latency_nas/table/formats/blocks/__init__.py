"""Formats of tables whose rows are whole blocks."""
