"""Every public class says in a line or a few what an object of it is."""

import inspect
from functools import partial

import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
from torch.distributions import constraints

import analysis
import bayes_rpp
import inference
from analysis import (
    Confirmation,
    compare,
    compare_posteriors,
    convergence,
    discover_symmetry,
    kept_components,
    kept_subgroup,
    kept_symmetry,
)
from analysis.evidence import ExactEvidence, ExactSampling
from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SO,
    BayesianModel,
    EquivariantBasis,
    Gaussian,
    HamiltonianRollout,
    InvariantLift,
    LiftedNetwork,
    Likelihood,
    LogDensity,
    NormalizedNetwork,
    O,
    PathwayNormal,
    ResidualSum,
    RPPConv2d,
    RPPConvNet,
    RPPLinear,
    RPPPrior,
    S,
    Scalar,
    T,
    TransitionRollout,
    Trivial,
    Vector,
    Z,
    equivariant_maps,
    rl,
)
from inference import MAP, DeepEnsemble, Laplace, PyroGuide
from tests.scenarios.engines import CASES
from tests.scenarios.numbers import numbers

SMALL = {"channels": 8, "layers": 1}
REPS = (2 * Scalar + Vector, Vector, O(3))


class Waits(Likelihood):
    """One of a user's own."""

    def __init__(self, floor):
        self.floor = floor

    def distribution(self, output, params):
        return dist.Exponential(output.exp() + self.floor).to_event(1)

    def check(self, y, num_outputs):
        pass


def networks():
    torch.manual_seed(0)
    net, lift = RPPEMLP(*REPS, **SMALL), InvariantLift(2 * Vector, SO(3))
    state, action = Vector(SO(3)), Scalar(SO(3))
    return [
        net,
        RPPEMLP(Vector, Scalar, [SO(3), Trivial(3)], channels=[8, 4], parametrization="collapsed"),
        EMLP(*REPS, **SMALL),
        MLP(*REPS, **SMALL),
        RPPConvNet((1, 6, 6), 3, [2], group="p4"),
        RPPConv2d(1, 2, 3, image=6),
        RPPLinear(Vector(O(3)), Scalar(O(3))),
        HamiltonianRollout(EMLP(4 * Vector, Scalar, O(3), **SMALL), steps=4, dt=0.2),
        TransitionRollout(RPPEMLP(state + action, state, SO(3), **SMALL), action, steps=3),
        lift,
        LiftedNetwork(MLP(lift.rep_out, Scalar, SO(3), **SMALL), lift),
        ResidualSum(EMLP(*REPS, **SMALL), MLP(*REPS, **SMALL)),
        normalized := NormalizedNetwork.fit(net, numbers(20, 5).float()),
        normalized.inputs,
    ]


def models():
    hierarchical = RPPPrior(equivariant_variance=dist.HalfCauchy(0.5), pathway_variances=[dist.LogNormal(-3.0, 1.0), 2])
    return [
        BayesianModel(RPPEMLP(*REPS, **SMALL), hierarchical, Waits(0.5)),
        LogDensity(lambda p: -p["z"].sum(), {"z": torch.ones(2)}, {"z": constraints.positive}),
        PathwayNormal((3, 3), 1e-4, [equivariant_maps(Vector(O(3)), Vector(O(3)))], [1.0]),
        equivariant_maps(Vector(O(3)), T(2)(O(3))),
        hierarchical,
    ]


def settings():
    constant = {"O13", "SO13", "SO13p", "Lorentz", "SO2eR3", "O2eR3", "Cube", "RubiksCube"}
    groups = [getattr(bayes_rpp, name)() for name in sorted(constant)]
    groups += [getattr(bayes_rpp, name)(4) for name in ("SL", "SO", "O", "S", "Z", "D", "DkeR3", "Sp", "Trivial")]
    likelihoods = [bayes_rpp.Bernoulli(), bayes_rpp.Categorical(), bayes_rpp.Poisson(), Gaussian(0.2)]
    likelihoods += [bayes_rpp.LaplaceNoise(0.1), bayes_rpp.StudentT(4.0, 0.1), bayes_rpp.HeteroscedasticGaussian(3)]
    guides = [PyroGuide(lambda program: AutoNormal(program)), PyroGuide(partial(AutoLowRankMultivariateNormal, rank=1))]
    schedules = [inference.Constant(), inference.Polynomial(), inference.Cyclical(3), inference.FlipsAndCrops()]
    return [
        *groups,
        *likelihoods,
        *guides,
        *schedules,
        *(engine for engine, _, _ in CASES),
        T(2),
        bayes_rpp.parse_rep("Vector(SO(3)) * Vector(S(2))"),
    ]


def posteriors():
    model, x = BayesianModel(RPPLinear(Vector(SO(3)), Scalar(SO(3))), RPPPrior(), Gaussian(0.1)), numbers(20, 3).float()
    data = x, x[:, :1]
    ensemble = DeepEnsemble(members=2, epochs=3, snapshots=1).fit(model, data, seed=0, progress=False)
    laplace = Laplace(mode=MAP(epochs=3), draws=8).fit(model, data, seed=0, progress=False)
    return ensemble, laplace, ensemble.history[0], ensemble.predict(x)


def findings(laplace):
    x = laplace.data[0]
    vector = Vector(Trivial(3))
    exact = Confirmation(ExactSampling(draws=20), ExactEvidence(), layers=0)
    linear = MLP(vector, vector, vector.group, layers=0)
    options = {"network": linear, "likelihood": Gaussian(0.01), "engine": ExactSampling(draws=20)}
    found = discover_symmetry((x, x), vector, vector, **options, confirmation=exact, progress=False)
    reps = {"rep_in": Vector(O(3)), "rep_out": Scalar(O(3))}

    def norms(x):
        return x.norm(dim=1, keepdim=True)

    kept = kept_symmetry(norms, x.double(), **reps)
    of_engine, model = {"engine": ExactSampling(draws=20), "method": ExactEvidence()}, laplace.model
    return [
        exact,
        found,
        kept,
        kept_components(norms, x.double(), kept, **reps),
        kept_subgroup(lambda x: x.sum(1, keepdim=True), x.double(), S(3), rep_in=Vector(S(3)), rep_out=Scalar(S(3))),
        compare({"linear": model, "again": model}, laplace.data, **of_engine, progress=False),
        compare_posteriors({"one": laplace}, laplace.data),
        convergence(laplace, x),
    ]


def of_learning():
    flip = -torch.eye(4)
    symmetry = rl.EnvironmentSymmetry.of_generators(Z(2), [flip], [-torch.eye(1)])
    steps = {"observations": numbers(40, 4), "actions": numbers(40, 1), "dones": torch.zeros(40)}
    steps["next_observations"] = torch.cat([steps["observations"][1:], numbers(1, 4)])
    return [
        symmetry,
        rl.CrossEntropyPlanner(lambda s, a, seed: s, lambda s, a, after: s, -torch.ones(2), torch.ones(2)),
        rl.RawFeatures(),
        rl.QuaternionFeatures(),
        rl.rollouts(steps, symmetry, steps=2, chunks=5, tests=0),
        *of_stable_baselines(symmetry),
    ]


def of_stable_baselines(symmetry):
    gymnasium = pytest.importorskip("gymnasium")
    vectors = pytest.importorskip("stable_baselines3.common.vec_env")
    env = vectors.DummyVecEnv([lambda: gymnasium.make("InvertedPendulum-v5")])
    policy = rl.RPPSACPolicy(env.observation_space, env.action_space, lambda _: 1e-3, symmetry=symmetry, net_arch=[8])
    return [policy, rl.SymmetricVecNormalize(env, symmetry), symmetry.verify(gymnasium.make("InvertedPendulum-v5"))]


def check(packages, objects):
    """Every public class of some packages has an example, and every example a short text."""
    names = [(package, name) for package in packages for name in package.__all__]
    public = {value for package, name in names if inspect.isclass(value := getattr(package, name))} - {EquivariantBasis}
    assert {kind.__name__ for kind in public if not any(isinstance(value, kind) for value in objects)} == set()
    for value in objects:
        lines = repr(value).splitlines()
        assert 1 <= len(lines) <= 12, lines
        assert max(map(len, lines)) <= 400, lines
        assert not any(" at 0x" in line or "tensor(" in line for line in lines), lines


def test_models_engines_and_posteriors_say_what_they_are():
    check((bayes_rpp, inference), [*networks(), *models(), *settings(), *posteriors()])


def test_findings_say_what_was_found():
    check((analysis,), findings(posteriors()[1]))


def test_symmetries_of_environments_and_policies_say_what_they_are():
    check((rl,), of_learning())


def test_a_model_shows_its_network_prior_and_likelihood_and_the_network_its_layers():
    net = RPPEMLP(*REPS, channels=64, layers=2)
    of_net = "RPPEMLP(2*Scalar + Vector -> Vector, group O(3), channels 64, layers 2; 7,893 parameters)"
    prior = "equivariant_variance=2.0, dense_variance=HalfCauchy(scale=0.01), mlp_variance=3.0, scaling='none'"
    noise = "Gaussian(noise_variance=0.2, learned=False, per_output=False, floor=1e-06)"
    model = BayesianModel(net, RPPPrior(2.0, dist.HalfCauchy(0.01), 3.0, "none"), Gaussian(0.2))
    assert repr(model) == f"BayesianModel({of_net}, RPPPrior({prior}), {noise})"
    last = "(2): RPPLinear(25*Scalar + 7*Vector + 2*T(2) -> Vector, group O(3); 64 -> 3, rank 7 of 192, residual)"
    assert "(nonlinearity): GatedNonlinearity(" in repr(net.network)
    assert last in repr(net.network)
    own = torch.nn.Sequential(torch.nn.Linear(5, 2), torch.nn.ReLU(), torch.nn.LazyLinear(3))
    assert repr(ResidualSum(EMLP(*REPS, **SMALL), own)).endswith(" + Sequential(12 parameters))")
