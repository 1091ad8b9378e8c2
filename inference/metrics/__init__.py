"""Metrics of samplers: coordinates in which a posterior is well conditioned."""
