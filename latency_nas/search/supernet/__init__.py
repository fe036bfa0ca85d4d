"""Supernets: their choices, styles and gates."""
