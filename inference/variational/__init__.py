"""Variational inference by Pyro guides."""
