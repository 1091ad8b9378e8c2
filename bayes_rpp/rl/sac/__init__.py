"""Soft actor-critic with residual pathway priors, for Stable-Baselines3."""
