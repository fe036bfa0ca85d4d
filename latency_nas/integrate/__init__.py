"""Training frameworks, one file each."""
