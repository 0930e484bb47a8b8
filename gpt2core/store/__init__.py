"""A model on disk: its folder, its weights, download and conversion."""
