"""Interfaces of other tools, implemented by this library."""
