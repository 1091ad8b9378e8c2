"""Bases of other pathways than groups: masks, bands, blocks, low frequencies, against their dense twins."""

import itertools

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bayes_rpp import EquivariantBasis, banded_maps, block_diagonal_maps, entry_maps, low_frequency_maps
from bayes_rpp.bases.dense import KroneckerBasis

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


def orthonormal(rows, columns, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(matrix)[0]


def scattered(m, n):
    return (torch.rand(m, n, generator=torch.Generator().manual_seed(0)) < 0.4).numpy()


BASES = {
    "kronecker": KroneckerBasis(orthonormal(4, 2, 0), orthonormal(5, 3, 1)),
    "kronecker of one column": KroneckerBasis(orthonormal(4, 1, 0), orthonormal(5, 1, 1)),
    "kronecker of all": KroneckerBasis(orthonormal(3, 3, 0), orthonormal(2, 2, 1)),
    "entries": entry_maps(scattered(4, 5)),
    "no entries": entry_maps(np.zeros((3, 4), dtype=bool)),
    "all entries": entry_maps(np.ones((3, 4), dtype=bool)),
    "band": banded_maps(5, 5, 1),
    "band of a wide map": banded_maps(3, 7, 2),
    "blocks": block_diagonal_maps([2, 1], [3, 4]),
    "blocks, one empty": block_diagonal_maps([2, 0, 1], [1, 3, 2]),
    "low frequencies": low_frequency_maps(6, 4, 3),
    "more frequencies than columns": low_frequency_maps(6, 2, 3),
}
bases = pytest.mark.parametrize(("name", "basis"), BASES.items())


def numbers(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)


def test_each_keeps_the_protocol_and_is_orthonormal(subtests):
    for name, basis in BASES.items():
        with subtests.test(msg=name):
            assert isinstance(basis, EquivariantBasis)
            q = basis.dense()
            assert q.shape == (basis.size, basis.rank)
            assert q.dtype == torch.float64
            torch.testing.assert_close(q.mT @ q, torch.eye(basis.rank).double(), rtol=0, atol=1e-12)


def test_forward_is_the_dense_twins(subtests):
    for name, basis in BASES.items():
        for batch in [(), (3,), (2, 0), (2, 3)]:
            for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 1e-5)]:
                with subtests.test(msg=f"{name}, batch {batch}, {dtype}"):
                    q = basis.dense().to(dtype)
                    beta, vector = numbers(*batch, basis.rank, dtype=dtype), numbers(*batch, basis.size, dtype=dtype)
                    for actual, expected in (
                        (basis.expand(beta), beta @ q.mT),
                        (basis.coordinates(vector), vector @ q),
                        (basis.project(vector), vector @ q @ q.mT),
                    ):
                        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_backward_is_the_dense_twins(subtests):
    for name, basis in BASES.items():
        with subtests.test(msg=name):
            q = basis.dense()
            for function, twin, size in (
                (basis.expand, lambda b, q=q: b @ q.mT, basis.rank),
                (basis.coordinates, lambda v, q=q: v @ q, basis.size),
            ):
                value, tangent = numbers(2, size).requires_grad_(), numbers(2, size)
                for f in (function, twin):
                    f(value)  # shapes agree before gradients are compared
                ours, theirs = (torch.autograd.grad(f(value).square().sum(), value)[0] for f in (function, twin))
                torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
                if size:
                    assert gradcheck(function, value)
                    assert gradgradcheck(lambda v, f=function: f(v).square(), value)
                outputs = [torch.func.jvp(f, (value.detach(),), (tangent,)) for f in (function, twin)]
                torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-11, atol=1e-11)


def test_vmap_over_any_axis(subtests):
    for name, basis in BASES.items():
        for axis in [0, 1, -1]:
            with subtests.test(msg=f"{name}, axis {axis}"):
                q, vector = basis.dense(), numbers(basis.size, 4).movedim(0, 1 if axis == 0 else 0)
                expected = (vector if axis == 0 else vector.mT) @ q
                torch.testing.assert_close(
                    torch.func.vmap(basis.coordinates, in_dims=axis)(vector), expected, rtol=1e-12, atol=1e-12
                )


def test_wrong_sizes_are_refused(subtests):
    for name, basis in BASES.items():
        with subtests.test(msg=name):
            with pytest.raises(ValueError, match=f"the rank {basis.rank}"):
                basis.expand(torch.zeros(basis.rank + 1))
            with pytest.raises(ValueError, match=f"must be {basis.size}"):
                basis.coordinates(torch.zeros(basis.size + 1))


def test_kronecker_is_the_kronecker_product():
    left, right = orthonormal(4, 2, 0), orthonormal(5, 3, 1)
    basis, beta = KroneckerBasis(left, right), numbers(6)
    torch.testing.assert_close(basis.dense(), torch.kron(left, right), rtol=0, atol=1e-14)
    torch.testing.assert_close(basis.expand(beta).reshape(4, 5), left @ beta.reshape(2, 3) @ right.mT)


def test_entries_are_those_of_the_mask_and_no_others():
    mask = scattered(4, 5)
    for given in (mask, torch.from_numpy(mask), mask.tolist(), mask.astype(int)):
        basis = entry_maps(given)
        reached = basis.project(torch.ones(20).double()).reshape(4, 5)
        assert torch.equal(reached, torch.from_numpy(mask).double())


@pytest.mark.parametrize("mask", [np.ones(3, dtype=bool), np.ones((2, 2, 2), dtype=bool)], ids=["1d", "3d"])
def test_masks_have_two_dimensions(mask):
    with pytest.raises(ValueError, match=r"mask must have shape \(m, n\)"):
        entry_maps(mask)


def support(basis, m, n):
    return basis.dense().abs().sum(1).reshape(m, n) > 0


def test_square_bands(subtests):
    for n, width in list(itertools.product([1, 4, 6], [0, 1, 2, 9])):
        with subtests.test(msg=f"{n} x {n}, width {width}"):
            i = torch.arange(n)
            assert torch.equal(support(banded_maps(n, n, width), n, n), (i[:, None] - i).abs() <= width)


def test_bands_of_other_maps_are_symmetric_and_grow(subtests):
    for width in [0, 1]:
        for m, n in [(2, 8), (8, 2), (3, 4), (4, 3)]:
            with subtests.test(msg=f"{m} x {n}, width {width}"):
                narrow, wide = support(banded_maps(m, n, width), m, n), support(banded_maps(m, n, width + 1), m, n)
                assert torch.equal(narrow, narrow.flip(0, 1))
                assert (wide | ~narrow).all()
                assert wide.sum() > narrow.sum()


@pytest.mark.parametrize(("m", "n"), [(5, 10), (8, 2), (3, 4), (4, 3), (5, 2)])
def test_a_band_of_width_one_leaves_no_output_and_no_input_alone(m, n):
    reached = support(banded_maps(m, n, 1), m, n)
    assert reached.any(0).all()
    assert reached.any(1).all()


def test_blocks():
    reached = support(block_diagonal_maps([2, 1], [3, 4]), 3, 7)
    assert torch.equal(reached, torch.block_diag(torch.ones(2, 3), torch.ones(1, 4)).bool())


def test_low_frequencies_are_the_smoothest_maps():
    """Eigenvectors of the second difference with reflecting ends, by its smallest eigenvalues."""
    m, n, k = 6, 5, 3

    def smooth(size):
        difference = torch.diff(torch.eye(size).double(), dim=0)
        return torch.linalg.eigh(difference.mT @ difference)[1][:, :k]

    q, twin = low_frequency_maps(m, n, k).dense(), torch.kron(smooth(m), smooth(n))
    torch.testing.assert_close(q @ q.mT, twin @ twin.mT, rtol=0, atol=1e-10)
    constant = torch.ones(m * n).double()
    torch.testing.assert_close(low_frequency_maps(m, n, 1).project(constant), constant)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: banded_maps(3, 3, -1), "width must not be negative, got -1"),
        (lambda: low_frequency_maps(3, 3, 0), "frequencies must be at least 1, got 0"),
        (lambda: block_diagonal_maps([1], [1, 2]), "1 blocks of rows and 2 of columns"),
    ],
    ids=["width", "frequencies", "blocks"],
)
def test_impossible_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
