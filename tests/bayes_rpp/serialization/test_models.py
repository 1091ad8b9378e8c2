"""Models as JSON values and back."""

import copy
import json
from dataclasses import asdict, dataclass

import pytest
import torch
from pyro.distributions import Chi2
from torch import nn

from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SL,
    SO,
    BayesianModel,
    D,
    Gaussian,
    Group,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    NormalizedNetwork,
    O,
    PseudoScalar,
    RPPPrior,
    S,
    Scalar,
    T,
    TransitionRollout,
    Vector,
    matrix_rep,
)
from bayes_rpp.serialization import register, registry
from bayes_rpp.serialization.models import describe_model, rebuild_model
from tests.scenarios.groups import QUARTER_TURNS
from tests.scenarios.likelihoods import BUILT_IN

TURNED = matrix_rep(D(4), generators=D(4).generators, name="State")
IMPOSTOR = Group(SO(3).lie_algebra[:1], name="SO(3)")


def numbers(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def normalized(network, dtype=torch.float32):
    x, y = numbers(20, network.rep_in.size, dtype=dtype), numbers(20, network.rep_out.size, seed=1, dtype=dtype)
    return NormalizedNetwork.fit(network, 1e3 * x + 0.1, 1e-3 * y)


def lifted(kind):
    lift = InvariantLift(2 * Vector, SO(3))
    return LiftedNetwork(kind(lift.rep_out, Scalar, SO(3), channels=6 * Scalar, layers=1), lift)


NETWORKS = {
    "RPPEMLP": lambda: RPPEMLP(Scalar + Vector, T(2), O(3), channels=14, layers=2),
    "collapsed": lambda: RPPEMLP(
        Vector, T(2), SO(2), channels=9, layers=1, parametrization="collapsed", bilinear=False
    ),
    "EMLP": lambda: EMLP(2 * Vector + PseudoScalar, PseudoScalar * T(2), O(3), channels=[20, Vector + 2 * Scalar]),
    "EMLP of SL(2)": lambda: EMLP(Vector + T(0, 1), T(2, 1), SL(2), channels=30, layers=1),
    "MLP": lambda: MLP(Scalar + Vector, T(2), O(3), channels=14, layers=1),
    "linear": lambda: RPPEMLP(Vector, Vector, D(3), layers=0),
    "permutations": lambda: RPPEMLP(Vector, T(2), S(4), channels=24, layers=1),
    "a user's group": lambda: RPPEMLP(Vector, T(2), QUARTER_TURNS, channels=9, layers=1),
    "a group with a famous name": lambda: EMLP(Vector, T(2), IMPOSTOR, channels=14, layers=1),
    "normalized": lambda: normalized(RPPEMLP(Scalar + Vector, T(2), O(3), channels=14, layers=1)),
    "lifted": lambda: lifted(RPPEMLP),
    "rollout": lambda: HamiltonianRollout(NormalizedNetwork.fit(lifted(MLP), numbers(9, 6)), steps=3, dt=0.2),
    "rollout with actions": lambda: TransitionRollout(
        NormalizedNetwork.fit(RPPEMLP(TURNED + Scalar, TURNED, D(4), channels=8 * Scalar, layers=1), numbers(9, 3)),
        Scalar,
        steps=3,
    ),
    "normalized twice": lambda: normalized(normalized(RPPEMLP(Vector, T(2), O(3), channels=14, layers=1))),
}
PRIOR = RPPPrior({"": 2.0, "network": 0.3}, 1e-3, mlp_variance=0.7, scaling="none")
INNER = {"rollout": "energy", "rollout with actions": "change"}


def prior_of(name):
    """One with a setting for a part of the network that there is."""
    return RPPPrior({"": 2.0, INNER.get(name, "network"): 0.3}, 1e-3, mlp_variance=0.7, scaling="none")


def through_json(model):
    return rebuild_model(json.loads(json.dumps(describe_model(model))))


def model_of(name, prior=None, likelihood=None):
    torch.manual_seed(0)
    return BayesianModel(NETWORKS[name](), prior or RPPPrior(), likelihood or Gaussian(0.3))


def test_a_rebuilt_model_is_the_same_function_and_the_same_density(subtests):
    for name in NETWORKS:
        with subtests.test(msg=name):
            model = model_of(name, prior_of(name))
            rebuilt = through_json(model)
            params = model.initial_params(seed=1)
            x, y = numbers(5, model.network.rep_in.size), numbers(5, model.num_outputs, seed=1)
            assert list(rebuilt.initial_params(seed=1)) == list(params)
            assert torch.equal(rebuilt.output(params, x), model.output(params, x))
            assert torch.equal(rebuilt.log_joint(params, x, y), model.log_joint(params, x, y))
            assert rebuilt.prior == model.prior
            assert next(rebuilt.network.parameters()).dtype == next(model.network.parameters()).dtype
            assert type(rebuilt.network) is type(model.network)


def test_a_rebuilt_model_has_the_group_and_its_sampler(subtests):
    for name in NETWORKS:
        with subtests.test(msg=name):
            group, rebuilt = model_of(name).network.group, through_json(model_of(name)).network.group
            assert rebuilt == group
            assert (type(rebuilt), rebuilt.name) == (type(group), group.name)
            assert torch.equal(rebuilt.sample(20, seed=0), group.sample(20, seed=0))


def test_the_likelihood_comes_back(subtests):
    for name, likelihood in (BUILT_IN | {"per output": Gaussian(0.3, True, per_output=True, floor=0.01)}).items():
        with subtests.test(msg=name):
            network = MLP(Vector, 3 * Scalar, SO(3), channels=3)
            found = through_json(BayesianModel(network, RPPPrior(), likelihood)).likelihood
            assert (type(found), found) == (type(likelihood), likelihood)


def test_a_double_precision_model_keeps_its_units_exactly():
    torch.manual_seed(0)
    network = normalized(RPPEMLP(Scalar + Vector, T(2), O(3), channels=14, layers=1).double(), torch.float64)
    model = BayesianModel(network, RPPPrior(), Gaussian(0.3))
    params, x = model.initial_params(seed=0), 1e3 * numbers(5, 4, dtype=torch.float64)
    torch.testing.assert_close(through_json(model).output(params, x), model.output(params, x), rtol=1e-12, atol=1e-15)


def test_descriptions_go_through_json_unchanged():
    description = describe_model(model_of("normalized", PRIOR))
    assert json.loads(json.dumps(description)) == description
    assert describe_model(rebuild_model(description)) == description


class Widened(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width, self.layers = width, nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, x):
        return self.layers(x)


@dataclass(frozen=True)
class Wide(Gaussian):
    widening: float = 2.0


def test_classes_of_a_users_own_come_back_once_they_are_registered(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    prior = RPPPrior(dense_variance=Chi2(3.0))
    model = BayesianModel(Widened(4), prior, Wide(0.3), num_outputs=2)
    assert describe_model(model) is None
    register("Widened", Widened, lambda net: {"width": net.width}, lambda given: Widened(**given))
    register("Wide", Wide, asdict, lambda given: Wide(**given))
    register("Chi2", Chi2, lambda law: {"df": float(law.df)}, lambda given: Chi2(torch.tensor(given["df"])))
    rebuilt = through_json(model)
    params, x = model.initial_params(seed=1), numbers(5, 3)
    assert torch.equal(rebuilt.output(params, x), model.output(params, x))
    assert rebuilt.likelihood == model.likelihood
    assert torch.equal(rebuilt.prior.dense_variance.df, prior.dense_variance.df)
    assert torch.equal(rebuilt.log_prior(params), model.log_prior(params))
    register("Wide", Wide, asdict, lambda given: Wide(**given))
    with pytest.raises(ValueError, match=r"the name 'Wide' is taken by .*\.Wide; give .*\.Widened another"):
        register("Wide", Widened, asdict, lambda given: Widened(**given))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"likelihood": {"kind": "Cauchy"}}, "unknown likelihood 'Cauchy'; known are Gaussian, Categorical"),
        ({"likelihood": {"kind": "MLP"}}, "unknown likelihood 'MLP'; known are Gaussian, Categorical"),
        ({"network": {"kind": "Gaussian"}}, "unknown network 'Gaussian'; known are RPPEMLP, EMLP, MLP"),
    ],
)
def test_names_that_are_unknown_or_of_another_kind_are_refused(part, message):
    with pytest.raises(ValueError, match=f"{message}.* bayes_rpp.serialization.register"):
        rebuild_model(describe_model(model_of("MLP")) | part)


class Mine(MLP):
    pass


class MyGaussian(Gaussian):
    pass


FOREIGN = {
    "a network": lambda: BayesianModel(nn.Linear(3, 2), RPPPrior(), Gaussian(1.0), num_outputs=2),
    "a subclass": lambda: BayesianModel(Mine(Vector, Scalar, SO(3), channels=3), RPPPrior(), Gaussian(1.0)),
    "a wrapped subclass": lambda: BayesianModel(
        normalized(Mine(Vector, Scalar, SO(3), channels=3)), RPPPrior(), Gaussian(1.0)
    ),
    "a likelihood": lambda: BayesianModel(MLP(Vector, Scalar, SO(3), channels=3), RPPPrior(), MyGaussian(1.0)),
    "no model": lambda: nn.Linear(3, 2),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_registered_has_no_description(kind):
    assert describe_model(FOREIGN[kind]()) is None


DAMAGES = {
    "no network": lambda d: d.pop("network"),
    "no likelihood": lambda d: d.pop("likelihood"),
    "no prior": lambda d: d.pop("prior"),
    "no precision": lambda d: d.pop("dtype"),
    "an unknown precision": lambda d: d.update(dtype="float33"),
    "no kind": lambda d: d["network"].pop("kind"),
    "an unknown network": lambda d: d["network"].update(kind="Transformer"),
    "an unknown likelihood": lambda d: d["likelihood"].update(kind="Cauchy"),
    "an unknown setting of the prior": lambda d: d["prior"].update(temperature=1.0),
    "an impossible variance": lambda d: d["prior"].update(dense_variance=-1.0),
    "an unknown setting of the network": lambda d: d["network"]["network"].update(width=3),
    "no representation": lambda d: d["network"]["network"].pop("rep_in"),
    "an unreadable representation": lambda d: d["network"]["network"].update(rep_in="Vectr"),
    "no group": lambda d: d["network"]["network"].pop("group"),
    "no generators": lambda d: d["network"]["network"]["group"].pop("generators"),
    "a group with a number missing": lambda d: d["network"]["network"]["group"].update(generators=[1.0, 0.0]),
    "no scale": lambda d: d["network"]["inputs"].pop("scale"),
    "a scale of another size": lambda d: d["network"]["inputs"].update(scale=[1.0, 2.0]),
    "no part of the kind it should be": lambda d: d.update(network=[1, 2]),
}


def test_a_damaged_description_is_refused(subtests):
    for damage in DAMAGES:
        with subtests.test(msg=damage):
            description = copy.deepcopy(describe_model(model_of("normalized")))
            rebuild_model(description)
            DAMAGES[damage](description)
            with pytest.raises(ValueError, match=r"\S"):
                rebuild_model(description)


def test_the_message_says_what_is_wrong():
    description = describe_model(model_of("MLP"))
    with pytest.raises(ValueError, match=r"description is damaged or of another version: KeyError\('prior'\)"):
        rebuild_model({k: v for k, v in description.items() if k != "prior"})
    description["network"]["kind"] = "Transformer"
    with pytest.raises(ValueError, match="unknown network 'Transformer'; known are RPPEMLP, EMLP, MLP"):
        rebuild_model(description)


def test_networks_of_older_files_have_the_bilinear_layers_of_their_time():
    model = BayesianModel(RPPEMLP(Vector, Scalar, SO(3), channels=12, bilinear="full"), RPPPrior(), Gaussian(0.2))
    described = describe_model(model)
    assert described["network"]["bilinear"] == "full"
    described["network"]["bilinear"] = True
    assert rebuild_model(described).initial_params(0).keys() == model.initial_params(0).keys()
    assert describe_model(rebuild_model(described))["network"]["bilinear"] == "full"
