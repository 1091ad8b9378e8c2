"""Orthonormal bases of equivariant maps and of other linear subspaces of weights."""
