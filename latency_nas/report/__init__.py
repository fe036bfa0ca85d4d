"""Numbers as text, figures and one HTML page."""
