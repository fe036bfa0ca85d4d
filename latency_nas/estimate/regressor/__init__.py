"""The regressor: prices of kernels that have no row in a table."""
