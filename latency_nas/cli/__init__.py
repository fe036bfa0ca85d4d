"""The command line. Each file holds a command or a group of commands."""
