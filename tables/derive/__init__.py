"""How the derived tables beside this folder were made."""
