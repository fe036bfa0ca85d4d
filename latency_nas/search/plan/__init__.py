"""The cost plan: what each candidate costs, and how it is found."""
