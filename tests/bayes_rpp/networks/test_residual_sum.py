"""Whole networks as pathways."""

import copy
import json

import pytest
import torch
from torch import nn

from bayes_rpp import EMLP, MLP, RPPEMLP, SO, BayesianModel, Gaussian, O, ResidualSum, RPPPrior, Trivial, Vector
from bayes_rpp.priors.rpp_prior import parameter_roles
from bayes_rpp.serialization.models import describe_model, rebuild_model
from inference import MAP
from tests.seeds import shifted


def linear_plus_mlp(**options):
    linear = MLP(Vector, Vector, Trivial(3), layers=0)
    return ResidualSum(linear, MLP(Vector, Vector, Trivial(3), channels=8, layers=1, **options))


def test_outputs_and_gradients_add():
    network, x = linear_plus_mlp().double(), torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(network(x), network.structured(x) + network.residual(x))
    network(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.norm() > 0 for parameter in network.parameters())


def test_representations_are_those_of_the_first_part():
    network = linear_plus_mlp()
    assert (network.rep_in, network.rep_out, network.group) == (Vector(Trivial(3)), Vector(Trivial(3)), Trivial(3))
    bare = ResidualSum(nn.Linear(3, 2), nn.Linear(3, 2))
    assert not hasattr(bare, "rep_in")


def test_plain_weights_are_broad_in_the_first_part_and_narrow_in_the_second():
    prior = RPPPrior(equivariant_variance=5.0, dense_variance=0.02, mlp_variance=1.0, scaling="none")
    laws = prior.distributions(linear_plus_mlp())
    assert {float(law.dense_variance) for name, law in laws.items() if name.startswith("structured.")} == {5.0}
    assert {round(float(law.dense_variance), 6) for n, law in laws.items() if n.startswith("residual.")} == {0.02}
    assert list(laws) == [name for name, _ in linear_plus_mlp().named_parameters()]


def test_fan_in_still_divides():
    laws = RPPPrior(5.0, 0.02).distributions(linear_plus_mlp())
    assert float(laws["structured.network.0.weight"].dense_variance) == pytest.approx(5.0 / 3)
    assert float(laws["residual.network.2.weight"].dense_variance) == pytest.approx(0.02 / 8)


def test_foreign_layers_take_their_parts_variance():
    network = ResidualSum(nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    laws = RPPPrior(5.0, 0.02, scaling="none").distributions(network)
    assert float(laws["structured.weight"].dense_variance) == 5.0
    assert float(laws["residual.2.bias"].dense_variance) == pytest.approx(0.02)


def test_parts_with_pathways_of_their_own_keep_them():
    network = ResidualSum(
        EMLP(Vector, Vector, O(3), channels=8, layers=1), RPPEMLP(Vector, Vector, O(3), channels=8, layers=1)
    )
    roles = dict(parameter_roles(network))
    assert roles["structured.network.1.beta"].pathway == "equivariant"
    assert roles["residual.network.1.beta"].pathway == "equivariant"
    assert roles["residual.network.1.dense"].pathway == "dense"
    collapsed = ResidualSum(
        MLP(Vector, Vector, O(3), layers=0), RPPEMLP(Vector, Vector, O(3), layers=0, parametrization="collapsed")
    )
    assert dict(parameter_roles(collapsed))["residual.network.0.weight"].pathway == "collapsed"


def test_the_innermost_part_decides():
    inner = ResidualSum(nn.Linear(3, 2), nn.Linear(3, 2))
    roles = dict(parameter_roles(ResidualSum(nn.Linear(3, 2), inner)))
    assert {name: role.pathway for name, role in roles.items() if name.endswith("weight")} == {
        "structured.weight": "equivariant",
        "residual.structured.weight": "equivariant",
        "residual.residual.weight": "dense",
    }
    wrapped = dict(parameter_roles(nn.Sequential(nn.Linear(3, 3), inner)))
    assert {wrapped[f"{place}.weight"].pathway for place in ("0", "1.structured", "1.residual")} == {
        "plain",
        "equivariant",
        "dense",
    }


def test_an_equivariant_part_makes_the_sum_equivariant_where_the_residual_is_zero():
    network = ResidualSum(
        EMLP(Vector, Vector, SO(3), channels=8, layers=1), MLP(Vector, Vector, SO(3), channels=8, layers=1)
    )
    network = network.double()
    x, g = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double(), SO(3).sample(1, seed=0)[0]
    assert not torch.allclose(network(x @ g.mT), network(x) @ g.mT)
    with torch.no_grad():
        for parameter in network.residual.parameters():
            parameter.zero_()
    torch.testing.assert_close(network(x @ g.mT), network(x) @ g.mT, rtol=1e-10, atol=1e-10)


def test_copies_are_independent_and_a_rebuilt_sum_is_the_same_function():
    network, x = linear_plus_mlp(), torch.ones(2, 3)
    copied = copy.deepcopy(network)
    assert torch.equal(copied(x), network(x))
    with torch.no_grad():
        copied.structured.network[0].weight.add_(1)
    assert not torch.equal(copied(x), network(x))
    model = BayesianModel(network, RPPPrior(), Gaussian(0.1))
    rebuilt, params = rebuild_model(json.loads(json.dumps(describe_model(model)))), model.initial_params(seed=1)
    assert torch.equal(rebuilt.output(params, x), model.output(params, x))
    assert torch.equal(rebuilt.log_prior(params), model.log_prior(params))
    foreign = BayesianModel(ResidualSum(network.structured, torch.nn.Linear(3, 3)), RPPPrior(), Gaussian(0.1))
    assert describe_model(foreign) is None


@pytest.mark.statistical
@pytest.mark.parametrize("curved", [False, True])
def test_linear_data_leave_the_residual_at_zero_and_curved_data_do_not(curved):
    generator = torch.Generator().manual_seed(shifted())
    x = torch.randn(100, 3, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([[0.5, -1.0, 0.0], [0.0, 0.5, -1.0], [1.0, 0.0, 0.5]]).double() + 2 * curved * x.square()
    prior = RPPPrior(equivariant_variance=10.0, dense_variance=1e-3)
    model = BayesianModel(linear_plus_mlp().double(), prior, Gaussian(0.01))
    posterior = MAP(epochs=600, lr=0.02, batch_size=None).fit(model, (x, y), seed=shifted(), progress=False)
    params = {name.removeprefix("residual."): value[0, 0] for name, value in posterior.samples.items()
              if name.startswith("residual.")}  # fmt: skip
    residual = torch.func.functional_call(model.network.residual, params, (x,))
    share = float(residual.std(0).mean() / y.std(0).mean())
    assert share > 0.3 if curved else share < 0.05
