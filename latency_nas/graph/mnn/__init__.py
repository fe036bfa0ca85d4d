"""MNN's own files."""
