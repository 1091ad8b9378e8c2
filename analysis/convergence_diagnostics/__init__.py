"""Convergence of chains, and intervals of what they estimate."""
