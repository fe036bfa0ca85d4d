"""Other tools' interfaces, answered by this library."""
