"""Sampling from groups: the law, the support, and the seeds."""

import math

import pytest
import torch
from scipy.stats import chisquare, kstest

from bayes_rpp import SL, SO, D, Group, O, O2eR3, S, SO2eR3, Trivial, Z
from tests.error_rate import ERROR_RATE, z_limit
from tests.seeds import shifted

QUARTER_TURN = [[0.0, -1.0], [1.0, 0.0]]
BY_WORDS = {
    "words of so(3)": Group(SO(3).lie_algebra),
    "words of o(3)": Group(O(3).lie_algebra, O(3).generators),
    "words of so(2)": Group(SO(2).lie_algebra),
    "words of o(2)": Group(O(2).lie_algebra, O(2).generators),
}
NAMED = {str(g): g for g in (SO(2), SO(3), SO(4), O(2), O(3), O(4))}

# E tr(g)^k is the number of invariants in the k-th tensor power; k = 1, 2, 3, 4.
TRACE_MOMENTS = {
    "SO(2)": (0, 2, 0, 6),
    "O(2)": (0, 1, 0, 3),
    "SO(3)": (0, 1, 1, 3),
    "O(3)": (0, 1, 0, 3),
    "SO(4)": (0, 1, 0, 4),
    "O(4)": (0, 1, 0, 3),
}
FINITE = [Trivial(3), Z(5), S(4), D(4), Group(generators=[QUARTER_TURN])]
EVERY_GROUP = [*FINITE, *NAMED.values(), SL(2), SL(3), SO2eR3(), O2eR3(), *BY_WORDS.values()]


def assert_mean_within_its_error(values, expected):
    error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - expected).abs() <= z_limit(error.numel()) * error + 1e-12).all()


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "power"), [(name, k) for name in TRACE_MOMENTS for k in (1, 2, 3, 4)])
def test_trace_moments_are_those_of_haar_measure(name, power):
    traces = NAMED[name].sample(20_000, seed=shifted()).diagonal(dim1=1, dim2=2).sum(1)
    assert_mean_within_its_error(traces**power, TRACE_MOMENTS[name][power - 1])


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "power"), [(name, k) for name in BY_WORDS for k in (1, 2, 3, 4)])
def test_random_words_in_generators_reach_haar_measure(name, power):
    traces = BY_WORDS[name].sample(4_000, seed=shifted()).diagonal(dim1=1, dim2=2).sum(1)
    named = name.removeprefix("words of ").upper()
    assert_mean_within_its_error(traces**power, TRACE_MOMENTS[named][power - 1])


@pytest.mark.statistical
@pytest.mark.parametrize("group", [SO(3), O(3), SO(4), BY_WORDS["words of so(3)"]], ids=str)
def test_entries_have_mean_zero_and_mean_square_one_over_d(group):
    samples = group.sample(4_000, seed=shifted(1)).flatten(1)
    assert_mean_within_its_error(samples, 0.0)
    assert_mean_within_its_error(samples.square(), 1 / group.d)


@pytest.mark.statistical
@pytest.mark.parametrize("group", [O(2), O(3), O2eR3(), BY_WORDS["words of o(3)"]], ids=str)
def test_half_of_the_elements_are_reflections(group):
    assert_mean_within_its_error(torch.linalg.det(group.sample(4_000, seed=shifted(2))), 0.0)


@pytest.mark.statistical
@pytest.mark.parametrize("group", [g for g in FINITE if len(g.elements) > 1], ids=str)
def test_finite_groups_are_sampled_uniformly(group):
    count = 400 * len(group.elements)
    distances = (group.sample(count, seed=shifted())[:, None] - group.elements[None]).abs().amax((-2, -1))
    assert distances.amin(1).max() < 1e-12
    frequencies = distances.argmin(1).bincount(minlength=len(group.elements))
    assert chisquare(frequencies.numpy()).pvalue > ERROR_RATE


@pytest.mark.statistical
@pytest.mark.parametrize("group", [SO2eR3(), O2eR3()], ids=str)
def test_groups_about_an_axis_fix_it_and_turn_by_a_uniform_angle(group):
    samples = group.sample(4_000, seed=shifted(3))
    axis = torch.tensor([0.0, 0.0, 1.0]).double()
    torch.testing.assert_close(samples @ axis, axis.expand(4_000, 3), rtol=0, atol=1e-14)
    angles = torch.atan2(samples[:, 1, 1], samples[:, 0, 1])
    assert kstest(angles.numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > ERROR_RATE


def test_samples_of_orthogonal_groups_are_orthogonal(subtests):
    for group in [g for g in EVERY_GROUP if g.is_orthogonal]:
        with subtests.test(msg=str(group)):
            samples = group.sample(200, seed=4)
            gram = samples.mT @ samples
            torch.testing.assert_close(gram, torch.eye(group.d).double().expand_as(gram), rtol=0, atol=1e-12)


def test_samples_of_special_groups_have_determinant_one(subtests):
    for group in [g for g in EVERY_GROUP if g.preserves_orientation]:
        with subtests.test(msg=str(group)):
            determinants = torch.linalg.det(group.sample(200, seed=5))
            torch.testing.assert_close(determinants, torch.ones(200).double(), rtol=0, atol=1e-11)


@pytest.mark.statistical
@pytest.mark.parametrize("n", [2, 3])
def test_samples_of_sl_are_of_order_one_and_not_orthogonal(n):
    samples = SL(n).sample(500, seed=shifted(6))
    gram_error = (samples.mT @ samples - torch.eye(n).double()).abs().amax((1, 2))
    assert gram_error.median() > 0.1
    assert samples.abs().max() < 100


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_alone(subtests):
    for group in EVERY_GROUP:
        with subtests.test(msg=str(group)):
            state = torch.get_rng_state()
            first, second = group.sample(50, seed=7), group.sample(50, seed=7)
            assert first.shape == (50, group.d, group.d)
            assert first.dtype == torch.float64
            assert torch.equal(first, second)
            assert torch.equal(state, torch.get_rng_state())


def test_another_seed_gives_other_elements(subtests):
    for group in [g for g in EVERY_GROUP if not isinstance(g, Trivial)]:
        with subtests.test(msg=str(group)):
            assert not torch.equal(group.sample(50, seed=7), group.sample(50, seed=8))


def test_changing_a_sample_does_not_change_the_group():
    group = Z(4)
    before = group.elements.clone()
    group.sample(10, seed=0).zero_()
    assert torch.equal(group.elements, before)


@pytest.mark.parametrize("count", [0, -3])
def test_a_sample_of_nothing_is_refused(count):
    with pytest.raises(ValueError, match=f"count must be at least 1, got {count}"):
        SO(3).sample(count, seed=0)
