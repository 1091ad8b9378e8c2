"""Posteriors and evidences of linear-Gaussian models in closed form."""
