"""Modes, and Gaussian approximations at them."""
