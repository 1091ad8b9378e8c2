"""Particles that follow a ladder of temperatures: annealed importance sampling and tempered SMC."""
