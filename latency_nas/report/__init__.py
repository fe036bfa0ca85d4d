"""Reports: numbers as text, figures, and an HTML page."""
