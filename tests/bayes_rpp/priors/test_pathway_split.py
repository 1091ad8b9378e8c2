"""The precision of a PathwayNormal, and the law of the pathways given their sum, against dense Gaussians."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from bayes_rpp import (
    SO,
    O,
    PathwayNormal,
    Scalar,
    SO2eR3,
    Vector,
    banded_maps,
    chain_basis,
    chain_maps,
    entry_maps,
    equivariant_basis,
    equivariant_maps,
    low_frequency_maps,
)
from tests.error_rate import z_limit
from tests.seeds import shifted

TURNS = equivariant_maps((2 * Vector)(O(2)), (2 * Vector)(O(2)))
CASES = {
    "none": ((2, 3), []),
    "a group": ((4, 4), [TURNS]),
    "a bias": ((5,), [equivariant_basis((2 * Scalar + Vector)(SO(3)))]),
    "a chain": ((3, 4), list(chain_maps(Vector + Scalar, Vector, [O(3), SO2eR3()]))),
    "a bias of a chain": ((4,), list(chain_basis(Vector + Scalar, [O(3), SO2eR3()]))),
    "overlapping": ((4, 4), [TURNS, banded_maps(4, 4, 1), low_frequency_maps(4, 4, 2)]),
    "one twice": ((4, 4), [TURNS, TURNS]),
    "an empty one": ((4, 4), [entry_maps(torch.zeros(4, 4)), banded_maps(4, 4, 0), banded_maps(4, 4, 1)]),
    "everything": ((2, 2), [banded_maps(2, 2, 2)]),
}
RELATIVE = [f"{case}, relative" for case in ("a group", "a chain", "overlapping")]
CASES |= {case: CASES[case.removesuffix(", relative")] for case in RELATIVE}
cases = pytest.mark.parametrize("case", CASES)
COUNT = 40_000


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def variances(case, batch=()):
    return numbers(*batch, seed=1).exp(), [numbers(*batch, seed=2 + k).exp() for k in range(len(CASES[case][1]))]


def build(case, dense, pathways, **options):
    shape, bases = CASES[case]
    return PathwayNormal(shape, dense, bases, pathways, relative(case) if case in RELATIVE else None, **options)


def relative(case):
    """One number for each coordinate of each basis; ones but in the cases named so."""
    drawn = [numbers(basis.rank, seed=60 + k).exp() for k, basis in enumerate(CASES[case][1])]
    return drawn if case in RELATIVE else [torch.ones_like(d) for d in drawn]


def covariance(case, dense, pathways):
    shape, bases = CASES[case]
    result = dense[..., None, None] * torch.eye(torch.Size(shape).numel()).double()
    for basis, v, d in zip(bases, pathways, relative(case), strict=True):
        result = result + v[..., None, None] * (basis.dense() * d @ basis.dense().mT)
    return result


def conditional(case, dense, pathways, value):
    """The law of all coordinates given their sum, by the dense joint covariance."""
    bases = CASES[case][1]
    q = torch.cat([basis.dense() for basis in bases], dim=1)
    prior = torch.cat([v * d for v, d in zip(pathways, relative(case), strict=True)])
    gain = torch.linalg.solve(covariance(case, dense, pathways), q * prior).mT
    sigma = prior.diag() - gain @ q * prior
    return gain @ value.flatten(), (sigma + sigma.mT) / 2


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def check_law(draws, mean, sigma):
    """Independent draws (count, size) have this mean and covariance."""
    count, scale = len(draws), sigma.diagonal().sqrt()
    centred, correlation = (draws - mean) / scale, sigma / torch.outer(scale, scale)
    first = centred.mean(0) * count**0.5
    second = (centred.mT @ centred / count - correlation) * count**0.5 / (1 + correlation**2).sqrt()
    scores = torch.cat([first, second[tuple(torch.triu_indices(*second.shape))]])
    assert scores.abs().max() < z_limit(len(scores))


def test_the_precision_is_the_inverse_of_the_dense_covariance(subtests):
    for case in CASES:
        for batch in [(), (3,), (2, 3)]:
            with subtests.test(msg=f"{case}, batch {batch}"):
                settings = variances(case, batch)
                law, shape = build(case, *settings), CASES[case][0]
                value = numbers(4, *batch, *shape)
                flat, sigma = value.reshape(4, *batch, -1), covariance(case, *settings)
                expected = torch.linalg.solve(sigma.expand(4, *batch, -1, -1), flat[..., None])[..., 0]
                close(law.precision_times(value), expected.reshape(value.shape))
                close(law.precision_times(value[0]), expected.reshape(value.shape)[0])
                # One value for a whole batch of laws.
                alone = value[(0,) * (1 + len(batch))]
                assert law.precision_times(alone).shape == (*batch, *shape)
                close(law.precision_times(alone), law.precision_times(alone.expand(*batch, *shape)))


@cases
def test_slopes_of_the_precision_in_the_variances_are_the_dense_ones(case):
    dense, pathways = variances(case)
    value = numbers(*CASES[case][0])

    def ours(*v):
        return build(case, v[0], v[1:], validate_args=False).precision_times(value).flatten()

    def theirs(*v):
        return torch.linalg.solve(covariance(case, v[0], v[1:]), value.flatten())

    slopes = (torch.autograd.functional.jacobian(f, (dense, *pathways)) for f in (ours, theirs))
    for actual, expected in zip(*slopes, strict=True):
        close(actual, expected, 1e-8)


def test_the_precision_is_minus_the_slope_of_the_log_density_under_vmap_too(subtests):
    for case in CASES:
        with subtests.test(msg=case):
            dense, pathways = variances(case)
            law, values = build(case, dense, pathways), numbers(5, *CASES[case][0])
            slopes = torch.func.vmap(torch.func.grad(law.log_prob))(values)
            close(law.precision_times(values), -slopes)
            close(torch.func.vmap(law.precision_times)(values), -slopes)


def test_the_precision_survives_single_precision_and_a_narrow_dense_pathway(subtests):
    """Against the dense answer for the very numbers that single precision holds, in the prior's own units."""
    for case in CASES:
        for narrow in [1e-3, 1e-7]:
            with subtests.test(msg=f"{case}, dense variance {narrow}"):
                pathways = [torch.tensor(1.0 / (k + 1)).double() for k in range(len(CASES[case][1]))]
                sigma = covariance(case, torch.tensor(narrow).double(), pathways)
                root = torch.linalg.cholesky(sigma)
                value = (numbers(20, len(sigma)) @ root.mT).float()
                law = build(case, narrow, [float(v) for v in pathways])
                ours = law.precision_times(value.reshape(20, *CASES[case][0]))
                assert ours.dtype == torch.float32
                error = ours.reshape(20, -1).double() - torch.linalg.solve(sigma, value.double().mT).mT
                # In units of the prior's width every entry of the answer is of size one.
                assert (error @ root).abs().max() < 1e-2


def test_the_parts_add_up(subtests):
    for case in CASES:
        for batch in [(), (3,), (2, 3)]:
            with subtests.test(msg=f"{case}, batch {batch}"):
                law, (shape, bases) = build(case, *variances(case, batch)), CASES[case]
                for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
                    value = numbers(2, *batch, *shape).to(dtype)
                    betas, rest = law.split(value)
                    assert [beta.shape for beta in betas] == [(2, *batch, basis.rank) for basis in bases]
                    assert {rest.dtype, *(beta.dtype for beta in betas)} == {dtype}
                    total = rest
                    for basis, beta in zip(bases, betas, strict=True):
                        total = total + basis.expand(beta).reshape(rest.shape)
                    close(total, value, tolerance)
                assert law.split(numbers(*shape))[1].shape == (*batch, *shape)


SETTINGS = {"wide": (1.0, 1.0), "usual": (1.0, 1e-2), "narrow": (2.0, 2e-7)}


def settings_of(case, name):
    broad, narrow = SETTINGS[name]
    pathways = [torch.tensor(broad / (k + 1)).double() for k in range(len(CASES[case][1]))]
    return torch.tensor(narrow).double(), pathways


def recovered(case, settings, value, **options):
    law = build(case, *settings)
    betas, _ = law.split(value.expand(COUNT, *value.shape), torch.Generator().manual_seed(shifted()), **options)
    return torch.cat(betas, dim=-1)


@pytest.mark.statistical
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("case", [case for case in CASES if case != "none"])
def test_the_law_of_the_coordinates_given_the_sum_is_the_dense_conditional(case, name):
    settings, shape = settings_of(case, name), CASES[case][0]
    value = numbers(*shape, seed=7)
    check_law(recovered(case, settings, value), *conditional(case, *settings, value))


@pytest.mark.statistical
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("case", ["a group", "a bias"])
def test_with_one_basis_it_is_the_closed_form(case, name):
    (basis,), (dense, (broad,)) = CASES[case][1], settings_of(case, name)
    value, share = numbers(*CASES[case][0], seed=7), broad / (broad + dense)
    mean, sigma = conditional(case, dense, [broad], value)
    close(mean, share * basis.coordinates(value.flatten()))
    torch.testing.assert_close(sigma, share * dense * torch.eye(basis.rank).double(), rtol=1e-6, atol=1e-9 * dense)
    check_law(recovered(case, (dense, [broad]), value), mean, share * dense * torch.eye(basis.rank).double())


@pytest.mark.statistical
@pytest.mark.parametrize("name", SETTINGS)
def test_the_check_sees_a_share_of_one_and_missing_noise(name):
    settings, value = settings_of("a group", name), numbers(4, 4, seed=7)
    mean, sigma = conditional("a group", *settings, value)
    projected = TURNS.coordinates(value.flatten()).expand(COUNT, -1)
    with pytest.raises(AssertionError):
        check_law(projected, mean, sigma)
    with pytest.raises(AssertionError):  # the width of the prior, or of B's own projection, in place of the law's
        check_law(mean + settings[1][0].sqrt() * numbers(COUNT, TURNS.rank), mean, sigma)
    if name == "wide":
        with pytest.raises(AssertionError):
            check_law(recovered("a group", settings, value) / 0.5, mean, sigma)


def test_log_densities_of_parts_and_sum_differ_by_that_of_the_conditional(subtests):
    for case in [case for case in CASES if case != "none"]:
        with subtests.test(msg=case):
            dense, pathways = variances(case)
            shape, bases = CASES[case]
            betas = [numbers(basis.rank, seed=20 + k) for k, basis in enumerate(bases)]
            rest = numbers(*shape, seed=30)
            total = rest + sum(basis.expand(beta) for basis, beta in zip(bases, betas, strict=True)).reshape(shape)
            parts = PathwayNormal(shape, dense).log_prob(rest)
            for v, d, beta in zip(pathways, relative(case), betas, strict=True):
                parts = parts + PathwayNormal(beta.shape, v, relative_variances=[d]).log_prob(beta)
            mean, sigma = conditional(case, dense, pathways, total)
            given = MultivariateNormal(mean, sigma).log_prob(torch.cat(betas))
            close(parts - build(case, dense, pathways).log_prob(total), given, 1e-8)


def test_at_temperature_zero_the_parts_are_the_mode_and_a_temperature_scales_the_noise(subtests):
    for case in CASES:
        with subtests.test(msg=case):
            dense, pathways = variances(case)
            law, value = build(case, dense, pathways), numbers(2, *CASES[case][0])
            seeds = [torch.Generator().manual_seed(3) for _ in range(3)]
            settings = zip(seeds, (0.0, 1.0, 4.0), strict=True)
            mode, plain, hot = (law.split(value, g, temperature=t)[0] for g, t in settings)
            widths = [v * d for v, d in zip(pathways, relative(case), strict=True)]
            for centre, once, twice, v, basis in zip(mode, plain, hot, widths, CASES[case][1], strict=True):
                close(twice - centre, 2 * (once - centre))
                close(centre, v * basis.coordinates(law.precision_times(value).flatten(1)))


def test_the_same_seed_draws_the_same_parts_and_no_global_noise():
    law, value = build("overlapping", *variances("overlapping")), numbers(3, 4, 4)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = (law.split(value, torch.Generator().manual_seed(5))[1] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, law.split(value)[1])
