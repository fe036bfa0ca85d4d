"""The regressor: what a kernel costs that no row of a table gives."""
