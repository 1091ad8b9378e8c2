"""Layers as sums of pathways, and what they say of their parameters."""
