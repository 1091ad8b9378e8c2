"""Posterior -> numbers and pictures."""
