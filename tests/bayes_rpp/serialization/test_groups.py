"""Groups, representations and whole chains of them as JSON values and back, and posteriors saved and loaded."""

import json
from dataclasses import asdict

import pytest
import torch

from bayes_rpp import (
    RPPEMLP,
    SL,
    SO,
    BayesianModel,
    D,
    Gaussian,
    Group,
    Irrep,
    NormalizedNetwork,
    O,
    O2eR3,
    PseudoScalar,
    Regular,
    RPPPrior,
    Scalar,
    SO2eR3,
    T,
    Trivial,
    Vector,
    Z,
    restrict,
)
from bayes_rpp.serialization.groups import describe_group, describe_rep, rebuild_group, rebuild_rep
from bayes_rpp.serialization.models import describe_model, rebuild_model
from inference import MAP, Posterior
from tests.scenarios.groups import Q8, by_matrices, elements

TWICE = SO(3) * SO(3)
HALF = SO2eR3() * SO(3)


def through_json(value):
    return json.loads(json.dumps(value))


GROUPS = [SO(3), O(2), Trivial(3), D(5), Q8, SL(2), TWICE, HALF, Z(4) * Q8, Group(SO(3).lie_algebra[:1], name="SO(3)")]


def test_groups_come_back_equal_and_of_their_own_kind(subtests):
    for group in GROUPS:
        with subtests.test(msg=str(group)):
            rebuilt = rebuild_group(through_json(describe_group(group)))
            assert rebuilt == group
            assert type(rebuilt) is type(group)
            assert str(rebuilt) == str(group)
            assert [type(part) for part in rebuilt.factors] == [type(part) for part in group.factors]


REPS = {
    "tensors": (2 * Scalar + PseudoScalar * Vector + T(2))(O(3)),
    "duals": (Vector.dual + 3 * T(1, 1))(SL(2)),
    "harmonics": (2 * Irrep(2) + PseudoScalar * Irrep(1))(O(3)),
    "finite": (Regular + 2 * Irrep(4))(Q8),
    "matrices": by_matrices(T(2)(SO(3))) + Vector(SO(3)),
    "matrices and a dual": by_matrices(Vector(SL(2))).dual * Vector + Scalar,
    "matrices of a finite group": by_matrices(Vector(Q8)) * Irrep(4),
    "matrices by the name of a vector": by_matrices(T(2)(SO(3)), "Vector") + Vector(SO(3)),
    "restricted": restrict((Irrep(2) + Vector)(O(3)), SO2eR3()),
    "restricted twice": restrict(restrict(Irrep(2)(O(3)), O2eR3()), SO2eR3()),
    "restricted matrices": restrict(by_matrices(T(2)(SO(3))), SO2eR3()),
    "on a product": Irrep(2)(SO(3))(SO(3) * Q8) + Irrep(4)(Q8)(SO(3) * Q8) * Vector(SO(3)),
    "on a repeated factor": Vector.on(TWICE, 1) + Vector.on(TWICE, 0) * Irrep(2).on(TWICE, 1),
    "restricted on a repeated factor": restrict(Irrep(2).on(TWICE, 0) + Irrep(1).on(TWICE, 1), HALF),
    "nothing": (0 * Scalar)(SO(3)),
}


def test_representations_come_back_equal(subtests):
    for name, rep in REPS.items():
        with subtests.test(msg=name):
            group = rebuild_group(through_json(describe_group(rep.bound_group)))
            rebuilt = rebuild_rep(through_json(describe_rep(rep)), group)
            assert rebuilt == rep
            assert hash(rebuilt) == hash(rep)
            (g,) = elements(rep.bound_group, 1, seed=0)
            assert torch.equal(rebuilt.rho(g), rep.rho(g))
            assert describe_rep(rebuilt) == describe_rep(rep)


def test_what_binding_simplifies_comes_back_for_a_larger_group():
    """A pseudoscalar of SO(3) is a scalar, but it is remembered as it was given."""
    rep = (PseudoScalar * Vector + Vector.dual)(SO(3))
    rebuilt = rebuild_rep(through_json(describe_rep(rep)), SO(3))
    assert rebuilt.given_terms == rep.given_terms


def test_damaged_matrices_are_refused():
    rep = by_matrices(Vector(SO(3)))
    description = through_json(describe_rep(rep))
    description[0][1][0][0]["lie_algebra"][0][0][1] = 0.5
    with pytest.raises(ValueError, match="no representation of"):
        rebuild_rep(description, SO(3))


NETWORKS = {
    "a chain": lambda **o: RPPEMLP(2 * Vector, Vector + Scalar, [O(3), O2eR3(), Trivial(3)], 12, 1, **o),
    "a chain of a product": lambda **o: RPPEMLP(
        Vector.on(TWICE, 0) + Vector.on(TWICE, 1), Vector.on(TWICE, 1) + Scalar, [TWICE, HALF], 40, 1, **o
    ),
    "harmonics": lambda **o: RPPEMLP(
        2 * Vector, Vector + Scalar, [O(3), O2eR3()], 4 * Scalar + 2 * Irrep(1) + Irrep(2), 1, **o
    ),
    "functions on a group": lambda **o: RPPEMLP(
        2 * Vector,
        Vector + Scalar,
        [D(4), Group(generators=D(4).generators[:1], name="C4")],
        2 * Regular + Irrep(4),
        2,
        **o,
    ),
    "matrices": lambda **o: RPPEMLP(2 * Vector, Vector, SO(3), by_matrices(T(2)(SO(3))) + 3 * Scalar, 1, **o),
    "restricted": lambda **o: RPPEMLP(
        2 * Vector, Vector, SO2eR3(), restrict((Irrep(2) + 2 * Scalar)(SO(3)), SO2eR3()), 1, **o
    ),
    "a user's group": lambda **o: RPPEMLP(Vector, Vector, Q8, Regular + Irrep(4), 1, **o),
}
networks = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


def test_networks_come_back_with_the_same_parameters_prior_and_function(subtests):
    for name, build in NETWORKS.items():
        for parametrization in ["residual", "collapsed"]:
            for dtype in [torch.float32, torch.float64]:
                with subtests.test(msg=f"{name}, {parametrization}, {dtype}"):
                    network = build(parametrization=parametrization).to(dtype)
                    prior = RPPPrior(pathway_variances=[1.0, {"": 0.1, "network": 0.2}, 0.01])
                    description = through_json(describe_model(BayesianModel(network, prior, Gaussian(0.1))))
                    model = rebuild_model(description)
                    model.network.load_state_dict(network.state_dict())
                    x = torch.randn(5, network.rep_in.size, generator=torch.Generator().manual_seed(0)).to(dtype)
                    assert torch.equal(model.network(x), network(x))
                    assert model.prior == prior
                    assert describe_model(model) == describe_model(BayesianModel(network, prior, Gaussian(0.1)))


def test_the_priors_settings_survive_json():
    for prior in (RPPPrior(), RPPPrior(pathway_variances=(1.0, {"": 2.0})), RPPPrior(pathway_variances=[3])):
        assert RPPPrior(**through_json(asdict(prior))) == prior
    assert RPPPrior(pathway_variances=[1.0]) == RPPPrior(pathway_variances=(1.0,)) != RPPPrior()


@networks
def test_a_fitted_posterior_comes_back_from_its_files_alone(build, tmp_path):
    torch.manual_seed(0)
    network = build()
    x = torch.randn(30, network.rep_in.size, generator=torch.Generator().manual_seed(1))
    y = torch.randn(30, network.rep_out.size, generator=torch.Generator().manual_seed(2))
    if "restricted" not in str(network.rep_in):
        network = NormalizedNetwork.fit(network, x, y)
    model = BayesianModel(network, RPPPrior(), Gaussian(0.1))
    first, posterior = (
        MAP(epochs=epochs, lr=1e-3, batch_size=None).fit(model, (x, y), seed=0, progress=False) for epochs in (1, 20)
    )
    before, after = (
        model.log_joint({name: value[0, 0] for name, value in run.samples.items()}, x, y) for run in (first, posterior)
    )
    assert after > before
    posterior.save(tmp_path / "run")
    loaded = Posterior.load(tmp_path / "run")
    assert torch.equal(loaded.predict(x).mean, posterior.predict(x).mean)
    assert list(loaded.samples) == list(posterior.samples)
