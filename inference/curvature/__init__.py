"""Gauss-Newton matrices, Kronecker factors, block structures and their determinants."""
