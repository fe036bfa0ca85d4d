"""Measuring networks and their kernels with a real engine."""
