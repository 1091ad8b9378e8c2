"""Markov chain Monte Carlo: what all samplers share."""
