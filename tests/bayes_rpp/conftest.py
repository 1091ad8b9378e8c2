"""What the tests of bases share: the dense twin of the solver."""

import pytest
import torch


def _dense_null_space(rep_in, rep_out):
    """An orthonormal basis of vec(W), row-major, for all equivariant W: by one SVD of all constraints."""
    group = rep_in.bound_group
    one_in, one_out = torch.eye(rep_in.size).double(), torch.eye(rep_out.size).double()
    rows = [torch.zeros(1, rep_in.size * rep_out.size).double()]
    for a in group.lie_algebra:
        rows.append(torch.kron(rep_out.drho(a), one_in) - torch.kron(one_out, rep_in.drho(a).mT.contiguous()))
    for g in group.generators:
        rows.append(torch.kron(rep_out.rho(g), one_in) - torch.kron(one_out, rep_in.rho(g).mT.contiguous()))
    _, singular, right = torch.linalg.svd(torch.linalg.qr(torch.cat(rows)).R)
    rank = int((singular > 1e-9 * singular.max().clamp(min=1.0)).sum())
    return right[rank:].mT


@pytest.fixture(scope="session")
def dense_null_space():
    """The function (rep_in, rep_out) -> (size_out * size_in, rank)."""
    return _dense_null_space
