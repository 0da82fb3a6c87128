"""Encoders that were trained by others: where their weights are had, and how they come into a network."""
