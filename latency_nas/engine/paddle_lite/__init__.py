"""Paddle-Lite."""
