"""Reads Paddle layers and programs of both formats, and writes programs for engines."""
