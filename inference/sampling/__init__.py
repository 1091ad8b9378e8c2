"""Markov chain Monte Carlo: HMC, NUTS and stochastic gradients, and the runs of their chains."""
