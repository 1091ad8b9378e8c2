"""The law of sampled elements: moments, orbit frequencies and seeds."""

import pytest
import torch
from scipy.stats import chisquare, ortho_group

from bayes_rpp import O13, SO, SO13, Cube, D, DkeR3, Group, O, RubiksCube, S, SO13p, Sp, Z
from tests.error_rate import ERROR_RATE, agrees, excess
from tests.seeds import shifted

ROTATED = torch.from_numpy(ortho_group.rvs(3, random_state=0))
MIXED = torch.tensor([[1.0, 0.3, -2.0], [0.0, 0.5, 1.0], [0.2, 0.0, 3.0]]).double()
A4 = Group.from_permutations([[1, 2, 0, 3], [1, 0, 3, 2]], name="A4")
S4 = Group.from_permutations([[1, 2, 3, 0], [1, 0, 2, 3]], name="S4 by transversals")
FROBENIUS = Group.from_permutations([[1, 2, 3, 4, 5, 6, 0], [0, 3, 6, 2, 5, 1, 4]], name="F42")  # x + 1 and 3 x mod 7

BY_ALGEBRA = Group(torch.einsum("ab,bij->aij", MIXED, SO(3).lie_algebra), name="a basis of so(3)")
BY_ANOTHER_REFLECTION = Group(
    SO(3).lie_algebra, (ROTATED @ torch.diag(torch.tensor([1.0, 1.0, -1.0]).double()) @ ROTATED.T)[None], name="my O(3)"
)

# E tr(g)^k for k = 1, 2, 3, 4: how often the trivial representation is in the k-th tensor power.
TRACES = [
    (SO(3), (0, 1, 1, 3)),
    (SO(4), (0, 1, 0, 4)),
    (SO(5), (0, 1, 0, 3)),
    (O(2), (0, 1, 0, 3)),
    (O(3), (0, 1, 0, 3)),
    (O(5), (0, 1, 0, 3)),
    (BY_ALGEBRA, (0, 1, 1, 3)),
    (BY_ANOTHER_REFLECTION, (0, 1, 0, 3)),
    (S(3), (1, 2, 5, 14)),  # fixed points: set partitions
    (S(8), (1, 2, 5, 15)),
    (S4, (1, 2, 5, 15)),
    (A4, (1, 2, 6, 22)),
    (Z(5), (1, 5, 25, 125)),
    (FROBENIUS, (1, 2, 10, 60)),  # 7 once and 1 for the 35 elements that fix one point
    (Cube(), (1, 3, 12, 60)),
    (D(5), (0, 1, 0, 3)),
    (DkeR3(5), (1, 2, 4, 10)),
]
MEAN_OF_STICKERS = (2, 9, 51)  # fixed stickers of Rubik's cube: orbits on stickers, on pairs and on triples


def has_moments(values, expected):
    """Whether (draw, statistic) have these means; those that do not vary have them to rounding."""
    values, expected = values.double(), torch.as_tensor(expected).double().expand(values.shape[1])
    moving = values.std(0) > 1e-9
    torch.testing.assert_close(values.mean(0)[~moving], expected[~moving], rtol=0, atol=1e-9)
    return agrees(values[:, moving], expected[moving])


@pytest.mark.statistical
@pytest.mark.parametrize(("group", "moments"), TRACES, ids=str)
def test_traces_have_the_moments_of_haar_measure(group, moments):
    traces = group.sample(8_000, seed=shifted()).diagonal(dim1=1, dim2=2).sum(1)
    assert has_moments(traces[:, None] ** torch.arange(1, 5), moments)


@pytest.mark.statistical
def test_fixed_stickers_of_rubiks_cube_have_the_moments_of_the_uniform_law():
    fixed = RubiksCube().sample(4_000, seed=shifted()).diagonal(dim1=1, dim2=2).sum(1)
    assert has_moments(fixed[:, None] ** torch.arange(1, 4), MEAN_OF_STICKERS)


@pytest.mark.statistical
def test_stickers_of_rubiks_cube_go_everywhere_in_their_orbit_equally_often():
    frequencies = RubiksCube().sample(4_000, seed=shifted(1)).sum(0)
    reached = frequencies > 0
    assert sorted(reached.sum(0).tolist()) == [24.0] * 48
    values = chisquare(frequencies[reached[:, 0], :][:, reached[0]].numpy())
    assert (values.pvalue > ERROR_RATE / values.pvalue.size).all()


@pytest.mark.statistical
@pytest.mark.parametrize("group", [A4, S4, FROBENIUS, Cube(), D(5), DkeR3(3), S(3) * Z(2)], ids=str)
def test_every_element_of_a_finite_group_is_equally_likely(group):
    drawn = group.join(group.sample(200 * group.order, seed=shifted(2)))
    distances = torch.cdist(drawn.flatten(1), group.elements.flatten(1))
    assert distances.amin(1).max() < 1e-6
    assert chisquare(distances.argmin(1).bincount(minlength=group.order).numpy()).pvalue > ERROR_RATE


@pytest.mark.statistical
@pytest.mark.parametrize("group", [SO(3), SO(5), O(3), BY_ALGEBRA, BY_ANOTHER_REFLECTION], ids=str)
def test_entries_have_the_moments_of_haar_measure(group):
    """E g_ij = 0, E g_ij g_kl = delta_ik delta_jl / d."""
    entries = group.sample(8_000, seed=shifted(3)).flatten(1)
    assert has_moments(entries, 0.0)
    products = (entries[:, :, None] * entries[:, None, :]).flatten(1)
    expected = torch.eye(group.d**2).double().flatten() / group.d
    assert has_moments(products, expected)


@pytest.mark.statistical
def test_factors_of_a_product_are_drawn_independently_and_by_their_own_laws():
    rotations, permutations = (SO(3) * S(4)).sample(8_000, seed=shifted(4))
    turned, fixed = (g.diagonal(dim1=1, dim2=2).sum(1) for g in (rotations, permutations))
    moments = torch.stack([turned, turned**2, turned**4, fixed, fixed**2, turned**2 * fixed**2], 1)
    assert has_moments(moments, [0, 1, 3, 1, 2, 2])
    same = (SO(3) * SO(3)).sample(2_000, seed=shifted(5))
    mixed = (same[0].mT @ same[1]).diagonal(dim1=1, dim2=2).sum(1)
    assert has_moments(torch.stack([mixed, mixed**2], 1), [0, 1])


@pytest.mark.statistical
def test_a_sampler_that_is_not_haar_is_told_apart():
    """The negative control: one Gaussian step in the algebra."""
    steps = torch.randn(8_000, 3, generator=torch.Generator().manual_seed(shifted())).double()
    samples = torch.linalg.matrix_exp(torch.einsum("ck,kij->cij", steps, SO(3).lie_algebra))
    traces = samples.diagonal(dim1=1, dim2=2).sum(1)
    assert excess(traces[:, None] ** torch.arange(1, 5), torch.tensor([0, 1, 1, 3])) > 1


SEEDED = [Sp(2), SO13p(), SO13(), O13(), DkeR3(4), Cube(), RubiksCube(), A4, BY_ALGEBRA, SO(3) * S(4)]


def test_the_seed_decides_the_bits_and_torch_is_left_alone(subtests):
    for group in SEEDED:
        with subtests.test(msg=str(group)):
            state = torch.get_rng_state()
            first, again, other = (group.join(group.sample(20, seed=seed)) for seed in (7, 7, 8))
            assert torch.equal(first, again)
            assert not torch.equal(first, other)
            assert torch.equal(state, torch.get_rng_state())
