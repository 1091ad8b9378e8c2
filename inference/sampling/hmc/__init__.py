"""Hamiltonian Monte Carlo."""
