"""Convolutions as maps between flattened images, and the symmetries of their kernels."""
