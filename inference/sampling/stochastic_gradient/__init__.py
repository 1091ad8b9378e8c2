"""Stochastic-gradient Langevin dynamics and Hamiltonian Monte Carlo."""
