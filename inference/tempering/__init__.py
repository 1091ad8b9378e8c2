"""Annealed importance sampling and tempered sequential Monte Carlo: particles along a ladder of temperatures."""
