"""One module for each group of addresses; no route imports another."""
