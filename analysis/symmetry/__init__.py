"""Equivariance errors, local errors, errors of layers, and shares of pathways."""
