"""A target is the model's log joint with the Jacobian of its constraints, over one vector a chain."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Dirichlet, Gamma, constraints

from bayes_rpp import MLP, BayesianModel, Gaussian, LogDensity, RPPPrior, Trivial, Vector
from inference import Posterior
from inference.density.unconstrained import UnconstrainedDensity

CONCENTRATION = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)


def gamma_and_dirichlet(params):
    return Gamma(3.0, 2.0).log_prob(params["rate"]).sum() + Dirichlet(CONCENTRATION).log_prob(params["p"])


@pytest.fixture
def constrained():
    example = {"rate": torch.ones(2, dtype=torch.float64), "p": torch.full((3,), 1 / 3, dtype=torch.float64)}
    return LogDensity(gamma_and_dirichlet, example, {"rate": constraints.positive, "p": constraints.simplex})


@pytest.fixture
def learned_noise(make_linear_problem):
    return make_linear_problem(likelihood=Gaussian(noise_variance=0.5, learned=True))


def test_vectors_and_parameters_are_each_others_inverse(constrained, learned_noise):
    densities = [UnconstrainedDensity(constrained, None), UnconstrainedDensity(*learned_noise)]
    assert densities[0].size == 2 + 2  # the simplex of three has two free coordinates
    for density in densities:
        z = torch.randn(3, 5, density.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(density.free(density.params(z)), z, rtol=1e-12, atol=1e-12)
        assert torch.equal(density.pack(density.unpack(z)), z)


def test_parameter_without_entries_takes_no_room():
    example = {"none": torch.zeros(0, dtype=torch.float64), "z": torch.ones(2, 2, dtype=torch.float64)}
    density = UnconstrainedDensity(LogDensity(lambda p: p["none"].sum() - p["z"].square().sum(), example), None)
    gradient, value = density.gradients(torch.ones(3, 4, dtype=torch.float64))
    assert torch.equal(gradient, torch.full((3, 4), 2.0, dtype=torch.float64))
    assert torch.equal(value, torch.full((3,), 4.0, dtype=torch.float64))
    assert density.initial([1, 2]).shape == (2, 4)


def test_potential_holds_the_jacobian_of_the_constraints(constrained):
    """log |d theta / d z| from the dense Jacobian; on the simplex, of its first two coordinates."""
    density = UnconstrainedDensity(constrained, None)
    z = torch.tensor([0.3, -0.7, 0.2, 1.1], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda z: torch.cat([density.params(z)["rate"], density.params(z)["p"][:2]]))(z)
    expected = -gamma_and_dirichlet(density.params(z)) - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(density.potential(z), expected, rtol=1e-12, atol=1e-12)


def test_correlations_have_their_jacobian_too():
    """Of a Cholesky factor with rows of length one: those entries below the diagonal are its coordinates."""
    example, constraint = {"v": torch.eye(4, dtype=torch.float64)}, {"v": constraints.corr_cholesky}
    density = UnconstrainedDensity(LogDensity(lambda p: p["v"].diagonal().log().sum(), example, constraint), None)
    z = torch.linspace(-1, 1, density.size, dtype=torch.float64)
    below = torch.tril_indices(4, 4, -1)
    factor = density.params(z)["v"]
    torch.testing.assert_close((factor @ factor.mT).diagonal(), torch.ones(4).double(), rtol=0, atol=1e-12)
    jacobian = torch.func.jacrev(lambda z: density.params(z)["v"][below[0], below[1]])(z)
    assert jacobian.shape == (6, 6)
    expected = -factor.diagonal().log().sum() - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(density.potential(z), expected, rtol=1e-12, atol=1e-12)


def test_potential_of_learned_noise_has_its_jacobian_too(learned_noise):
    model, (x, y) = learned_noise
    density = UnconstrainedDensity(model, (x, y))
    params = model.initial_params(3)
    free = (params["noise_variance"] - model.constraints["noise_variance"].lower_bound).log()
    expected = -model.log_joint(params, x, y) - free.sum()
    torch.testing.assert_close(density.potential(density.free(params)), expected, rtol=1e-12, atol=1e-12)


def test_temperature_divides_the_whole_joint_and_not_the_jacobian(constrained, learned_noise):
    for problem in ((constrained, None), learned_noise):
        z = UnconstrainedDensity(*problem).initial([4])[0]
        one, warm, hot = (UnconstrainedDensity(*problem, temperature=t).potential(z) for t in (1.0, 2.5, 5.0))
        torch.testing.assert_close((one - warm) / (1 - 1 / 2.5), (one - hot) / (1 - 1 / 5.0))
        model, params = problem[0], UnconstrainedDensity(*problem).params(z)
        joint = model.log_joint(params, *(problem[1] or ()))
        torch.testing.assert_close((one - hot) / (1 - 1 / 5.0), -joint)


def spread(values):
    return float(values.max() - values.min())


def test_sums_in_float32_are_exact_where_there_are_many_parameters():
    """Of 600,000 parameters, whose log prior is in the millions: float32 has steps of a quarter of a nat there."""
    network = MLP(Vector, Vector, Trivial(3), channels=775, layers=2)
    prior, likelihood = RPPPrior(mlp_variance=0.1), Gaussian(noise_variance=0.2)
    x, y = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0))
    rough = UnconstrainedDensity(BayesianModel(network, prior, likelihood), (x, y))
    exact = UnconstrainedDensity(
        BayesianModel(copy.deepcopy(network).double(), prior, likelihood), (x.double(), y.double())
    )
    z = rough.initial([0]) * torch.tensor([[0.3], [0.5], [0.8], [1.0]])
    gradients, values = rough.gradients(z)
    true_gradients, true_values = exact.gradients(z.double())
    assert true_values.abs().min() > 1e6
    assert gradients.dtype == torch.float32
    torch.testing.assert_close(gradients.double(), true_gradients, rtol=1e-3, atol=1e-3)
    plain = torch.stack([-rough.model.log_joint(rough.params(one), x, y) for one in z])
    assert spread(values - true_values) < 0.005  # all up to the same constant, from the rounding of the variance
    assert spread(plain - true_values) > 0.05


class Scaled(nn.Module):
    """Its parameter has no axes, so that a stack of chains of it has one."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.scale * x


def test_gradients_of_all_chains_are_those_of_each(constrained, learned_noise):
    scaled = BayesianModel(Scaled(), RPPPrior(), Gaussian(noise_variance=1.0), num_outputs=1)
    for problem in ((constrained, None), learned_noise, (scaled, (torch.ones(4, 1).double(),) * 2)):
        density = UnconstrainedDensity(*problem)
        z = density.initial([0, 1, 2]) + torch.arange(3.0)[:, None]
        gradients, values = density.gradients(z)
        for chain in range(3):
            leaf = z[chain].clone().requires_grad_()
            value = density.potential(leaf)
            torch.testing.assert_close(values[chain], value.detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(gradients[chain], torch.autograd.grad(value, leaf)[0], rtol=1e-10, atol=1e-10)


def test_minibatch_gradients_average_to_the_gradient_of_all_data(learned_noise):
    model, (x, y) = learned_noise
    density = UnconstrainedDensity(model, (x, y))
    z = density.initial([0]).expand(6, -1)  # six chains at one place, each with its own sixth of the data
    gradients, values = density.gradients(z, (x.unflatten(0, (6, 5)), y.unflatten(0, (6, 5))))
    whole, value = density.gradients(z[:1])
    torch.testing.assert_close(gradients.mean(0), whole[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(values.mean(), value[0], rtol=1e-10, atol=1e-10)
    density.num_data = 5  # as if there were no factor of N / batch
    assert (density.gradients(z, (x.unflatten(0, (6, 5)), y.unflatten(0, (6, 5))))[0].mean(0) - whole[0]).norm() > 1


def test_latest_draws_come_first_one_a_chain_and_around_again(constrained):
    density = UnconstrainedDensity(constrained, None)
    z = torch.randn(2, 3, density.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    latest = density.latest(Posterior(constrained, density.params(z)), 8)
    expected = torch.stack([z[chain, draw] for draw in (2, 1, 0) for chain in (0, 1)] + [z[0, 2], z[1, 2]])
    torch.testing.assert_close(latest, expected, rtol=1e-12, atol=1e-12)


def test_draws_that_cannot_be_a_start_are_refused(constrained):
    density = UnconstrainedDensity(constrained, None)
    other = Posterior(None, {"rate": torch.ones(1, 1, 3)})
    with pytest.raises(ValueError, match=r"start is of another model.*'rate': \(3,\).*expected.*'p': \(3,\)"):
        density.latest(other, 1)
    boundary = Posterior(None, {"rate": torch.zeros(1, 1, 2), "p": torch.full((1, 1, 3), 1 / 3)})
    with pytest.raises(ValueError, match="on the boundary of their constraint"):
        density.latest(boundary, 1)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_is_that_of_the_density_over_the_constrained_parameters(temperature):
    """p(v) = exp(-v) at temperature T is exp(-v / T), whose mean is T, whatever the free coordinate of v > 0 is."""
    positive = {"v": torch.distributions.constraints.positive}
    log_density = LogDensity(lambda p: -p["v"], {"v": torch.tensor(1.0, dtype=torch.float64)}, positive)
    density = UnconstrainedDensity(log_density, None, temperature=temperature)
    z = torch.linspace(-30.0, 8.0, 20_001, dtype=torch.float64)[:, None]
    weights = (-density.gradients(z)[1]).exp()
    assert float((weights * z[:, 0].exp()).sum() / weights.sum()) == pytest.approx(temperature, rel=1e-6)
