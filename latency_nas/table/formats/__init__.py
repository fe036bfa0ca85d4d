"""Tables in other formats, one file a format."""
