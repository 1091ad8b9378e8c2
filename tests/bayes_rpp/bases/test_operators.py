"""Structured bases as linear operators, against their dense twins, forward and backward."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bayes_rpp import (
    O13,
    SL,
    SO,
    Cube,
    D,
    DkeR3,
    EquivariantBasis,
    Group,
    O,
    PseudoScalar,
    S,
    Scalar,
    Sp,
    T,
    Trivial,
    Vector,
    Z,
    equivariant_basis,
    equivariant_maps,
)
from bayes_rpp.bases.block import BlockBasis
from bayes_rpp.bases.solver import invariant_vectors
from bayes_rpp.representations.canonical import canonical_columns
from bayes_rpp.representations.factors import DUAL, VECTOR
from bayes_rpp.representations.tensor_products import dual_piece
from tests.scenarios.numbers import numbers

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


def blocks(rep_in, rep_out):
    """The same basis as equivariant_maps, never stored as one matrix."""
    group = (rep_in + rep_out).bound_group
    rep_in, rep_out = rep_in(group), rep_out(group)
    pairs = [(rows, columns) for rows in rep_out.runs for columns in rep_in.runs]
    solved = [(r, c, invariant_vectors(group, r.piece + dual_piece(c.piece))) for r, c in pairs]
    return BlockBasis((rep_out.size, rep_in.size), [block for block in solved if block[2].shape[1]])


O3_MAPS = (2 * Scalar + Vector + Scalar + Vector)(O(3)), (T(2) + 2 * Vector)(O(3))
SL2_MAPS = (Vector + 2 * T(0, 1))(SL(2)), (T(1, 1) + Scalar + Vector)(SL(2))
SIGNED_MAPS = (PseudoScalar + 2 * Vector)(S(3)), (Scalar + PseudoScalar * Vector)(S(3))
PRODUCT_MAPS = Vector(SO(3)) * Vector(S(2)) + 2 * Vector(S(2)), Vector(SO(3)) * Vector(S(2)) + Vector(SO(3))
LORENTZ_MAPS = (Vector + T(0, 1) + Scalar)(O13()), (T(0, 1) + 2 * Vector + Scalar)(O13())
MAPS = {
    "O(3)": O3_MAPS,
    "SL(2)": SL2_MAPS,
    "signed S(3)": SIGNED_MAPS,
    "SO(3) * S(2)": PRODUCT_MAPS,
    "O13": LORENTZ_MAPS,
}
BASES = {
    "orbits of S(3)": lambda: equivariant_maps((2 * Vector + Scalar + Vector)(S(3)), (Scalar + T(2))(S(3))),
    "orbits of Z(4)": lambda: equivariant_maps(Vector(Z(4)), (2 * Scalar + Vector)(Z(4))),
    "orbits of Trivial(2)": lambda: equivariant_maps(Vector(Trivial(2)), Vector(Trivial(2))),
    "signed S(3)": lambda: equivariant_maps(*SIGNED_MAPS),
    "signed blocks of S(3)": lambda: blocks(*SIGNED_MAPS),
    "maps of O(3)": lambda: equivariant_maps(*O3_MAPS),
    "blocks of O(3)": lambda: blocks(*O3_MAPS),
    "maps of SL(2)": lambda: equivariant_maps(*SL2_MAPS),
    "blocks of SL(2)": lambda: blocks(*SL2_MAPS),
    "invariants of D(4)": lambda: equivariant_basis((2 * T(2) + Vector + Scalar)(D(4))),
    "maps of D(4)": lambda: equivariant_maps((PseudoScalar + Vector)(D(4)), (T(2) + 2 * Vector)(D(4))),
    "signed blocks of D(4)": lambda: blocks((PseudoScalar + Vector)(D(4)), (T(2) + 2 * Vector)(D(4))),
    "invariants of the cube": lambda: equivariant_basis((PseudoScalar * T(2) + 2 * Vector)(Cube())),
    "maps of SO(3) * S(2)": lambda: equivariant_maps(*PRODUCT_MAPS),
    "blocks of SO(3) * S(2)": lambda: blocks(*PRODUCT_MAPS),
    "orbits of S(3) * Z(2)": lambda: equivariant_maps(Vector(S(3)) * Vector(Z(2)), 2 * Vector(S(3)) * Vector(Z(2))),
    "signed orbits of D(4) * S(2)": lambda: equivariant_maps(
        Vector(D(4)) * Vector(S(2)) + PseudoScalar(S(2))(D(4) * S(2)), Vector(D(4)) * PseudoScalar(S(2)) * Vector(S(2))
    ),
    "maps of the Lorentz group": lambda: equivariant_maps(*LORENTZ_MAPS),
    "blocks of the Lorentz group": lambda: blocks(*LORENTZ_MAPS),
    "maps of Sp(1) * O(2)": lambda: equivariant_maps(
        Vector(Sp(1)) * Vector(O(2)) + Scalar, T(0, 1)(Sp(1)) * Vector(O(2)) + PseudoScalar(O(2))
    ),
}
EMPTY = {
    "no maps": lambda: equivariant_maps((4 * Vector)(O(3)), Scalar(O(3))),
    "no blocks": lambda: blocks((4 * Vector)(O(3)), Scalar(O(3))),
    "maps from nothing": lambda: equivariant_maps((0 * Vector)(O(3)), Vector(O(3))),
    "no orbits": lambda: equivariant_maps(Vector(S(3)), (0 * Vector)(S(3))),
    "no signed orbits": lambda: equivariant_maps(Vector(D(4)), (Scalar + T(2))(D(4))),
    "no maps of a product": lambda: equivariant_maps(Vector(O(3)) * Vector(S(3)), T(2)(O(3))(O(3) * S(3))),
}


def built(builders):
    return [(name, build()) for name, build in builders.items()]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_bases_keep_the_protocol(subtests):
    for name, basis in built(BASES | EMPTY):
        with subtests.test(msg=name):
            assert isinstance(basis, EquivariantBasis)
            assert basis.dense().shape == (basis.size, basis.rank)
            assert basis.dense().dtype == torch.float64


def test_structured_operators_are_their_dense_twins(subtests):
    for name, basis in built(BASES | EMPTY):
        for batch in [(), (5,), (2, 3), (0,)]:
            with subtests.test(msg=f"{name}, batch {batch}"):
                q, beta, vector = basis.dense(), numbers(*batch, basis.rank), numbers(*batch, basis.size)
                close(basis.expand(beta), beta @ q.mT)
                close(basis.coordinates(vector), vector @ q)
                close(basis.project(vector), vector @ q @ q.mT)
                close(basis.expand_onto(beta, vector), vector + beta @ q.mT)


def test_sums_with_an_expansion_work_under_transforms(subtests):
    """Derivatives of both orders and both modes, and vmap with batches of one argument or of both."""
    for name, basis in built(BASES):
        with subtests.test(msg=name):
            beta, vector = numbers(basis.rank).requires_grad_(), numbers(basis.size).requires_grad_()
            assert gradcheck(basis.expand_onto, (beta, vector), check_forward_ad=True)
            assert gradgradcheck(lambda b, v, f=basis.expand_onto: f(b.sin(), v.cos()).square().sum(), (beta, vector))
            betas, vectors = numbers(3, basis.rank), numbers(3, basis.size)
            for in_dims, arguments in (((0, 0), (betas, vectors)), ((0, None), (betas, vectors[0])),
                                       ((None, 0), (betas[0], vectors)), ((1, 0), (betas.mT, vectors))):  # fmt: skip
                mapped = torch.func.vmap(basis.expand_onto, in_dims=in_dims)(*arguments)
                rows = betas if in_dims[0] is not None else betas[:1]
                close(mapped, arguments[1] + basis.expand(rows))
    with pytest.raises(ValueError, match=r"beta has batch dimensions \(2,\), v \(3,\)"):
        basis.expand_onto(numbers(2, basis.rank), numbers(3, basis.size))


def test_sums_over_large_orbits_keep_single_precision():
    """A sum of 90,000 numbers one after another would be off by 2e-3."""
    basis = equivariant_maps(Vector(S(300)), Vector(S(300)))
    vector = torch.full((basis.size,), 0.1)
    torch.testing.assert_close(
        basis.coordinates(vector).double(), basis.coordinates(vector.double()), rtol=1e-6, atol=0
    )


def test_sums_with_an_expansion_have_the_wider_type():
    for name in ("orbits of S(3)", "blocks of O(3)"):
        basis = BASES[name]()
        beta, vector = numbers(basis.rank), numbers(basis.size)
        close(basis.expand_onto(beta.float(), vector), vector + basis.expand(beta.float()))


def test_entries_and_blocks_are_the_same_operators(monkeypatch):
    """Bases with few entries that are not zero are added entry by entry, on a processor."""
    basis = blocks(*O3_MAPS)
    beta, vector = numbers(4, basis.rank), numbers(4, basis.size)
    by_entries = basis.expand(beta), basis.coordinates(vector), basis.expand_onto(beta, vector)
    assert basis._is_scattered(beta)
    monkeypatch.setattr("bayes_rpp.bases.block.is_summed_in_order", lambda value: False)
    close(by_entries, (basis.expand(beta), basis.coordinates(vector), basis.expand_onto(beta, vector)))


@pytest.mark.parametrize("maps", MAPS.values(), ids=list(MAPS))
def test_blocks_are_the_basis_itself(maps):
    close(blocks(*maps).dense(), equivariant_maps(*maps).dense())


def test_coordinates_undo_expand(subtests):
    for name, basis in built(BASES | EMPTY):
        with subtests.test(msg=name):
            beta = numbers(4, basis.rank)
            close(basis.coordinates(basis.expand(beta)), beta)


def test_derivatives_of_both_orders_agree_with_differences(subtests):
    for name, basis in built(BASES):
        operators = {"expand": basis.rank, "coordinates": basis.size, "project": basis.size}
        for operator, size in operators.items():
            with subtests.test(msg=f"{operator}: {name}"):
                function, value = getattr(basis, operator), numbers(size).requires_grad_()
                assert gradcheck(function, value, check_forward_ad=True)
                assert gradgradcheck(lambda v, f=function: f(v.sin()).square().sum(-1), value)


def test_gradients_are_the_adjoints(subtests):
    for name, basis in built(BASES | EMPTY):
        with subtests.test(msg=name):
            q = basis.dense()
            beta, vector = numbers(3, basis.rank).requires_grad_(), numbers(3, basis.size).requires_grad_()
            close(torch.autograd.grad((basis.expand(beta) * vector.detach()).sum(), beta)[0], vector.detach() @ q)
            close(
                torch.autograd.grad((basis.coordinates(vector) * beta.detach()).sum(), vector)[0], beta.detach() @ q.mT
            )


def test_jacobians_of_either_mode_are_the_matrix(subtests):
    for name, basis in built(BASES | EMPTY):
        with subtests.test(msg=name):
            beta, vector = numbers(basis.rank), numbers(basis.size)
            for jacobian in (torch.func.jacrev, torch.func.jacfwd):
                close(jacobian(basis.expand)(beta), basis.dense())
                close(jacobian(basis.coordinates)(vector), basis.dense().mT)


def test_vmap_is_a_loop_along_any_dimension(subtests):
    for name, basis in built(BASES | EMPTY):
        with subtests.test(msg=name):
            q, beta, vector = basis.dense(), numbers(3, basis.rank, 4), numbers(basis.size, 5)
            close(torch.func.vmap(basis.expand, in_dims=2)(beta), beta.movedim(2, 0) @ q.mT)
            close(torch.func.vmap(basis.coordinates, in_dims=1, out_dims=1)(vector), q.mT @ vector)
            nested = torch.func.vmap(torch.func.vmap(basis.expand), in_dims=1)(beta.movedim(1, 2))
            close(nested, beta.permute(2, 0, 1) @ q.mT)


def hessian_vector_product(expand, beta, tangent):
    """Of the sum of fourth powers, with its gradient."""
    gradient = torch.func.grad(lambda b: expand(b).pow(4).sum())
    return torch.func.jvp(gradient, (beta,), (tangent,))


def test_jvp_and_hessian_vector_products_are_those_of_the_dense_twin(subtests):
    for name, basis in built(BASES):
        with subtests.test(msg=name):
            q, beta, tangent = basis.dense(), numbers(basis.rank), numbers(2, basis.rank)[1]
            structured = hessian_vector_product(basis.expand, beta, tangent)
            for actual, expected in zip(structured, hessian_vector_product(q.matmul, beta, tangent), strict=True):
                close(actual, expected)


def test_single_precision_is_the_rounded_double(subtests):
    for name, basis in built(BASES):
        with subtests.test(msg=name):
            beta, vector = numbers(4, basis.rank), numbers(4, basis.size)
            for function, value in ((basis.expand, beta), (basis.coordinates, vector)):
                single = function(value.float())
                assert single.dtype == torch.float32
                torch.testing.assert_close(single.double(), function(value), rtol=1e-5, atol=1e-5)


def test_other_widths_are_refused(subtests):
    for name, basis in built(BASES | EMPTY):
        with subtests.test(msg=name):
            with pytest.raises(ValueError, match=rf"beta has shape \(2, {basis.rank + 1}\).* rank {basis.rank}"):
                basis.expand(torch.zeros(2, basis.rank + 1))
            with pytest.raises(ValueError, match=rf"vector has shape \({basis.size + 1},\).* must be {basis.size}"):
                basis.coordinates(torch.zeros(basis.size + 1))


@pytest.mark.parametrize(
    ("group", "rep_in", "rep_out"),
    [
        (SO(3), T(5), T(6)),
        (O(3), 5 * Scalar + T(5), Vector + T(6)),
        (S(5), T(5), T(6)),
        (DkeR3(3), T(6), T(6)),
        (Group(generators=[[[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]), T(6), T(6)),
    ],
    ids=["null space", "one pair among many", "orbits", "finite group", "no normal generator"],
)
def test_what_needs_too_much_memory_says_how_many_bytes(group, rep_in, rep_out):
    with pytest.raises(ValueError, match=r"[\d,]+ bytes \(the limit is [\d,]+\)\. Use pieces of lower\s+rank"):
        equivariant_maps(rep_in(group), rep_out(group))


def test_unbound_and_foreign_representations_are_refused():
    with pytest.raises(ValueError, match="Vector is not bound to a group yet"):
        equivariant_maps(Vector, Vector(SO(3)))
    with pytest.raises(ValueError, match="Vector is not bound to a group yet"):
        equivariant_basis(Vector)
    with pytest.raises(ValueError, match=r"rep_in belongs to SO\(3\), rep_out to O\(3\); they must share a group"):
        equivariant_maps(Vector(SO(3)), Vector(O(3)))


CANONICAL = [(SO(3), T(4)), (O(3), T(4)), (D(4), T(4)), (SL(2), T(2, 2)), (S(4), PseudoScalar * T(4)), (SO(2), T(4))]


def test_canonical_columns_do_not_depend_on_the_basis_they_come_from(subtests):
    for group, rep in CANONICAL:
        for seed in range(5):
            with subtests.test(msg=f"{rep} of {group}, seed {seed}"):
                q = invariant_vectors(group, rep(group).terms[0][1])
                generator = torch.Generator().manual_seed(seed)
                rotation, _ = torch.linalg.qr(
                    torch.randn(q.shape[1], q.shape[1], generator=generator, dtype=torch.float64)
                )
                rotated, canonical = (torch.from_numpy(canonical_columns(basis.numpy())) for basis in (q @ rotation, q))
                torch.testing.assert_close(rotated, canonical, rtol=0, atol=1e-11)
                torch.testing.assert_close(rotated, q, rtol=0, atol=1e-11)


def test_axes_of_either_kind_come_in_any_order():
    mixed = invariant_vectors(SL(3), (DUAL, VECTOR)).reshape(3, 3)
    torch.testing.assert_close(mixed, mixed[0, 0] * torch.eye(3).double(), rtol=0, atol=1e-12)
    four = invariant_vectors(SL(2), (DUAL, VECTOR, VECTOR, DUAL)).reshape(2, 2, 2, 2, -1)
    other = invariant_vectors(SL(2), (VECTOR, VECTOR, DUAL, DUAL)).reshape(2, 2, 2, 2, -1)
    torch.testing.assert_close(four.permute(1, 2, 0, 3, 4), other, rtol=0, atol=1e-12)
