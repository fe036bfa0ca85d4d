"""Makes the derived tables beside this folder."""
