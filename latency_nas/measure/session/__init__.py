"""Metering sessions: one SQLite file each, from what is to be metered to a table."""
