"""Paddle programs of both formats, and Paddle layers: read, and written for engines that take them."""
