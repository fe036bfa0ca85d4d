"""Formats of measured times of whole networks, for calibration."""
