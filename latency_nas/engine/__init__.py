"""Engines: what each makes of a network, how it is given one, and how it is timed."""
