"""Groups of every kind, their elements, and representations given by matrices."""

import torch

from bayes_rpp import SL, SO, Cube, D, Group, O, O2eR3, Rep, S, SO2eR3, Trivial, Z, matrix_rep

GROUPS = [Trivial(3), Z(4), S(4), D(3), D(4), SO(2), SO(3), O(2), O(3), SL(2), SL(3), SO2eR3(), O2eR3()]

# Groups without a name of their own: the quarter turns of the plane, the even permutations, the quaternions.
QUARTER_TURNS = Group(generators=[[[0.0, -1.0], [1.0, 0.0]]], name="C4")
A4 = Group.from_permutations([[1, 2, 0, 3], [1, 0, 3, 2]], name="A4")
Q8 = Group(
    generators=[
        [[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]],
        [[0.0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]],
    ],
    name="Q8",
)
FINITE_GROUPS = [Trivial(2), Z(2), Z(5), Z(6), D(1), D(3), D(4), D(6), S(3), S(4), S(5), Cube(), Q8, A4]


def elements(group: Group, count: int, seed: int = 0) -> list:
    """Random elements one by one; those of a direct product are tuples."""
    samples = group.sample(count, seed=seed)
    return list(zip(*samples, strict=True)) if isinstance(samples, tuple) else list(samples)


def turning_and_permuting(n: int) -> Group:
    """SO(2) x S(n) as one group of matrices, with n! components."""
    algebra = torch.block_diag(SO(2).lie_algebra[0], torch.zeros(n, n).double())
    generators = torch.stack([torch.block_diag(torch.eye(2).double(), h) for h in S(n).generators])
    return Group(algebra[None], generators, name=f"SO(2) x S({n})")


def by_matrices(rep: Rep, name: str = "given") -> Rep:
    """The same representation, known by its matrices on the generators alone."""
    group = rep.bound_group
    algebra = torch.stack([rep.drho(a) for a in group.lie_algebra]) if len(group.lie_algebra) else None
    generators = torch.stack([rep.rho(h) for h in group.generators]) if len(group.generators) else None
    return matrix_rep(group, algebra, generators, name)
