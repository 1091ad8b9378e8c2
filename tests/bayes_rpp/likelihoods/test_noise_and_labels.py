"""The settings of the noise, and labels."""

import math

import pyro.distributions as dist
import pytest
import torch

from bayes_rpp import Categorical, Gaussian
from tests.error_rate import z_limit
from tests.seeds import shifted


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 3), (6, 4, 2)], ids=["vectors", "rollouts"])
def test_the_gaussian_is_a_normal_of_the_noise_variance_summed_over_outputs(shape):
    output, y = numbers(*shape), numbers(*shape, seed=1)
    expected = torch.distributions.Normal(output, math.sqrt(0.2)).log_prob(y).flatten(1).sum(1)
    likelihood = Gaussian(noise_variance=0.2)
    close(likelihood.log_prob(output, y, {}), expected)
    law = likelihood.distribution(output, {})
    close(law.log_prob(y), expected)
    assert (law.batch_shape, law.event_shape) == (shape[:1], shape[1:])


def test_a_learned_noise_is_taken_from_the_parameters():
    likelihood, output, y = Gaussian(0.2, learned=True), numbers(6, 3), numbers(6, 3, seed=1)
    params = {"noise_variance": torch.tensor(0.7).double()}
    expected = torch.distributions.Normal(output, params["noise_variance"].sqrt()).log_prob(y).sum(1)
    close(likelihood.log_prob(output, y, params), expected)
    close(likelihood.distribution(output, params).log_prob(y), likelihood.log_prob(output, y, params))


def test_one_noise_for_each_output():
    likelihood, output, y = Gaussian(0.2, learned=True, per_output=True), numbers(6, 3), numbers(6, 3, seed=1)
    assert torch.equal(likelihood.parameters(3)["noise_variance"], torch.full((3,), 0.2))
    params = {"noise_variance": torch.tensor([0.1, 1.0, 10.0]).double()}
    expected = torch.distributions.Normal(output, params["noise_variance"].sqrt()).log_prob(y).sum(1)
    close(likelihood.log_prob(output, y, params), expected)
    close(likelihood.distribution(output, params).log_prob(y), expected)
    law = likelihood.priors(3)["noise_variance"]
    assert (law.batch_shape, law.event_shape) == ((), (3,))
    shared = Gaussian(0.2, learned=True).priors(3)["noise_variance"]
    close(law.log_prob(params["noise_variance"]), shared.log_prob(params["noise_variance"]).sum())


@pytest.mark.statistical
@pytest.mark.parametrize(("variance", "floor"), [(0.2, 1e-6), (2.0, 0.5)])
def test_the_noises_prior_is_log_normal_above_its_floor_with_the_given_median(variance, floor):
    likelihood = Gaussian(variance, learned=True, floor=floor)
    law = likelihood.priors(3)["noise_variance"]
    median = torch.tensor(variance).double()
    torch.testing.assert_close(float(law.cdf(median)), 0.5, rtol=0, atol=1e-6)
    value = torch.tensor(3.0).double()
    log_ratio = math.log(3.0 - floor) - math.log(variance - floor)
    expected = -0.5 * (log_ratio / 2) ** 2 - math.log(2 * math.sqrt(2 * math.pi) * (3.0 - floor))
    torch.testing.assert_close(float(law.log_prob(value)), expected, rtol=1e-6, atol=1e-6)
    torch.manual_seed(shifted())
    draws = law.sample((2000,))
    assert likelihood.constraints()["noise_variance"].check(draws).all()
    assert abs(float((draws < variance).double().mean()) - 0.5) < z_limit() * 0.5 / math.sqrt(2000)


@pytest.mark.parametrize("per_output", [False, True])
def test_the_noises_prior_says_that_it_begins_at_the_floor(per_output):
    support = Gaussian(0.2, learned=True, per_output=per_output, floor=0.1).priors(2)["noise_variance"].support
    shape = (2,) if per_output else ()
    assert not support.check(torch.full(shape, 0.05))
    assert support.check(torch.full(shape, 0.11))


def test_the_constraint_begins_at_the_floor():
    constraint = Gaussian(0.2, learned=True, floor=0.1).constraints()["noise_variance"]
    assert constraint.check(torch.tensor([0.05, 0.1, 0.11])).tolist() == [False, False, True]
    assert constraint.check(Gaussian(0.2, learned=True, floor=0.1).parameters(1)["noise_variance"])


@pytest.mark.parametrize("likelihood", [Gaussian(0.2), Categorical()])
def test_likelihoods_without_parameters_have_none(likelihood):
    assert likelihood.parameters(3) == likelihood.priors(3) == likelihood.constraints() == {}


def test_the_categorical_takes_outputs_as_logits():
    output, y = numbers(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    likelihood = Categorical()
    by_hand = (output.exp() / output.exp().sum(1, keepdim=True)).log()[range(7), y]
    close(likelihood.log_prob(output, y, {}), by_hand)
    close(likelihood.distribution(output, {}).log_prob(y), by_hand)
    assert isinstance(likelihood.distribution(output, {}), dist.Categorical)
    shifted = likelihood.log_prob(output + 1e3, y, {})
    torch.testing.assert_close(shifted, by_hand, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["noise_variance", "floor"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_variances_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, got"):
        Gaussian(**({"noise_variance": 1.0} | {name: value}))


def test_a_learned_noise_must_start_above_its_floor():
    with pytest.raises(ValueError, match=r"noise_variance 0\.1 must exceed the floor 0\.1"):
        Gaussian(0.1, learned=True, floor=0.1)


@pytest.mark.parametrize("shape", [(5, 2), (5,), (3,), (5, 3, 2)])
def test_a_gaussian_refuses_targets_of_another_width(shape):
    with pytest.raises(ValueError, match="the network has 3 outputs"):
        Gaussian(1.0).check(torch.zeros(shape), 3)


def test_a_gaussian_refuses_integers_and_takes_what_fits():
    with pytest.raises(TypeError, match=r"floating-point y, got torch\.int64"):
        Gaussian(1.0).check(torch.zeros(5, 3, dtype=torch.int64), 3)
    for shape in ((5, 3), (5, 7, 3)):
        Gaussian(1.0).check(torch.zeros(shape), 3)


@pytest.mark.parametrize("y", [torch.zeros(5), torch.zeros(5, 1, dtype=torch.int64), torch.tensor(1)])
def test_a_categorical_refuses_what_are_no_labels(y):
    with pytest.raises(TypeError, match=r"integer labels of shape \(batch,\), got"):
        Categorical().check(y, 3)


@pytest.mark.parametrize(("labels", "found"), [([0, 3], r"0\.\.3"), ([-1, 2], r"-1\.\.2")])
def test_a_categorical_refuses_labels_out_of_range(labels, found):
    with pytest.raises(ValueError, match=rf"labels must lie in 0\.\.2, got {found}"):
        Categorical().check(torch.tensor(labels), 3)


def test_a_categorical_takes_every_label_and_no_data():
    Categorical().check(torch.tensor([0, 1, 2]), 3)
    Categorical().check(torch.zeros(0, dtype=torch.int64), 3)


@pytest.mark.parametrize("given", [(0.1, 0.2, 0.4), [0.1, 0.2, 0.4], torch.tensor([0.1, 0.2, 0.4]).double()])
def test_known_noise_may_differ_from_output_to_output(given):
    output, y = numbers(6, 3), numbers(6, 3, seed=1)
    scale = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64).sqrt()
    expected = torch.distributions.Normal(output, scale).log_prob(y).sum(1)
    likelihood = Gaussian(given)
    torch.testing.assert_close(likelihood.log_prob(output, y, {}), expected, rtol=1e-6, atol=1e-6)
    assert likelihood.noise_variance == pytest.approx((0.1, 0.2, 0.4))
    likelihood.check(y, 3)
    with pytest.raises(ValueError, match="noise_variance has 3 numbers for 4 outputs"):
        likelihood.check(numbers(6, 4), 4)


@pytest.mark.statistical
def test_learned_noise_may_start_differently_for_each_output():
    likelihood = Gaussian((0.1, 0.4), learned=True)
    assert likelihood.parameters(2)["noise_variance"].tolist() == pytest.approx([0.1, 0.4])
    prior = likelihood.priors(2)["noise_variance"]
    assert prior.event_shape == (2,)
    torch.manual_seed(shifted())
    above = (prior.sample((4000,)) > torch.tensor([0.1, 0.4])).double().mean(0)
    assert ((above - 0.5).abs() < z_limit(2) * 0.5 / math.sqrt(4000)).all()


@pytest.mark.parametrize("likelihood", [Gaussian((0.1, 0.4), learned=True), Gaussian(0.2, learned=True)])
def test_learned_noise_has_a_prior_density_on_any_device(likelihood):
    prior, start = likelihood.priors(2)["noise_variance"], likelihood.parameters(2)["noise_variance"]
    on_meta = prior.log_prob(torch.empty((5, *start.shape), device="meta"))
    assert (on_meta.shape, on_meta.device.type) == ((5,), "meta")


def test_noise_that_is_no_number_is_refused():
    assert Gaussian(torch.tensor(0.25)).noise_variance == 0.25
    with pytest.raises(TypeError):
        Gaussian("small")
    with pytest.raises(ValueError, match="number or one for each output"):
        Gaussian([[0.1]])
    with pytest.raises(ValueError, match="per_output needs learned=True"):
        Gaussian(0.2, per_output=True)
