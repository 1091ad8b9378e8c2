"""The equivariance error against literal loops and functions whose symmetry is known."""

import math

import numpy as np
import pytest
import torch

from analysis import equivariance_error, pathway_shares
from analysis.symmetry.equivariance import summarize
from bayes_rpp import (
    EMLP,
    MLP,
    RPPEMLP,
    SL,
    SO,
    BayesianModel,
    D,
    Gaussian,
    Irrep,
    LogDensity,
    O,
    O2eR3,
    PseudoScalar,
    RPPPrior,
    S,
    Scalar,
    SO2eR3,
    T,
    Vector,
)
from bayes_rpp.datasets import inertia
from inference import Posterior
from tests.seeds import shifted

REDUCTIONS = ["mean_of_ratios", "ratio_of_norms", "geometric_mean"]


@pytest.fixture(scope="module")
def modified():
    """Modified inertia in float64: its function, points, and representations."""
    data = inertia(train=1, test=1000, symmetry_breaking=0.3, seed=shifted())
    return data.function, data.test.x.double(), {"rep_in": data.rep_in, "rep_out": data.rep_out}


def skewed(x):
    """A map from two vectors to a vector that no rotation commutes with."""
    return x[:, :3] * torch.tensor([1.0, 2.0, -0.5]).to(x) + x[:, 3:].square() + 0.3


def literal_error(f, x, rep_in, rep_out, elements, reduction):
    """The definition, one group element and one point at a time."""
    differences, firsts, seconds = [], [], []
    for g in elements:
        for point in x:
            a, b = rep_out.rho(g) @ f(point[None])[0], f((rep_in.rho(g) @ point)[None])[0]
            differences.append(float((a - b).norm()))
            firsts.append(float(a.norm()))
            seconds.append(float(b.norm()))
    ratios = [d / (a + b) for d, a, b in zip(differences, firsts, seconds, strict=True)]
    if reduction == "mean_of_ratios":
        return sum(ratios) / len(ratios)
    if reduction == "geometric_mean":
        return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    return math.hypot(*differences) / (math.hypot(*firsts) + math.hypot(*seconds))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_error_is_its_definition(reduction):
    generator = torch.Generator().manual_seed(0)
    x, elements = torch.randn(6, 6, generator=generator, dtype=torch.float64), O(3).sample(4, seed=1)
    rep_in, rep_out = (2 * Vector)(O(3)), Vector(O(3))
    arguments = {"rep_in": rep_in, "rep_out": rep_out, "reduction": reduction, "elements": elements}
    expected = literal_error(skewed, x, rep_in, rep_out, elements, reduction)
    assert float(equivariance_error(skewed, x, **arguments)) == pytest.approx(expected, rel=1e-12)
    each = equivariance_error(skewed, x, per_element=True, **arguments)
    assert each.dims == ("element",)
    expected = [literal_error(skewed, x, rep_in, rep_out, [g], reduction) for g in elements]
    np.testing.assert_allclose(each.values, expected, rtol=1e-12)
    np.testing.assert_array_equal(each.attrs["elements"], elements.numpy())


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_sampled_elements_are_those_of_the_group(reduction):
    """Independent from point to point: each point meets its own elements."""
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rep_in, rep_out, elements = (2 * Vector)(SO(3)), Vector(SO(3)), SO(3).sample(15, seed=7).unflatten(0, (3, 5))
    arguments = {"rep_in": rep_in, "rep_out": rep_out, "reduction": reduction}
    sampled = float(equivariance_error(skewed, x, elements=3, seed=7, **arguments))
    singles = [
        literal_error(skewed, x[i : i + 1], rep_in, rep_out, elements[e, i][None], "mean_of_ratios")
        for e in range(3)
        for i in range(5)
    ]
    expected = {"mean_of_ratios": np.mean(singles), "geometric_mean": np.exp(np.mean(np.log(singles)))}
    if reduction in expected:
        assert sampled == pytest.approx(expected[reduction], rel=1e-12)
    other = float(equivariance_error(skewed, x, elements=3, seed=8, **arguments))
    assert float(equivariance_error(skewed, x, elements=3, seed=7, **arguments)) == sampled != other


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("reduction", "value", "tolerance"),
    [("mean_of_ratios", 0.0863, 0.002), ("ratio_of_norms", 0.0903, 0.003), ("geometric_mean", 0.0806, 0.002)],
)
def test_error_of_modified_inertia_under_o3(modified, reduction, value, tolerance):
    f, x, reps = modified
    assert float(equivariance_error(f, x, reduction=reduction, seed=shifted(), **reps)) == pytest.approx(
        value, abs=tolerance
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_exact_symmetry_has_no_error(modified, reduction):
    _, x, reps = modified
    exact = inertia(train=1, symmetry_breaking=0.0).function
    assert float(equivariance_error(exact, x, reduction=reduction, **reps)) < 1e-12


def test_equivariant_network_has_no_error_and_others_have(fit_small, bodies):
    x = bodies.test.x.double()
    errors = {net: equivariance_error(fit_small(bodies, net, torch.float64), x) for net in (EMLP, RPPEMLP, MLP)}
    assert float(errors[EMLP].max()) < 1e-12
    assert float(errors[RPPEMLP].min()) > 1e-6
    assert float(errors[MLP].min()) > 1e-2


def test_posterior_is_measured_draw_by_draw(fit_small, bodies):
    posterior = fit_small(bodies, members=4)
    samples = {name: value.reshape(2, 2, *value.shape[2:]) for name, value in posterior.samples.items()}
    error = equivariance_error(Posterior(posterior.model, samples), bodies.test.x, elements=3)
    assert error.dims == ("chain", "draw")
    assert error.shape == (2, 2)
    for chain in range(2):
        for draw in range(2):
            params = {name: value[chain, draw] for name, value in samples.items()}
            alone = equivariance_error(
                lambda x, params=params: posterior.model.output(params, x),
                bodies.test.x,
                rep_in=bodies.rep_in,
                rep_out=bodies.rep_out,
                elements=3,
            )
            assert float(error[chain, draw]) == pytest.approx(float(alone), rel=1e-4)
    each = equivariance_error(posterior, bodies.test.x, elements=5, per_element=True)
    assert each.dims == ("chain", "draw", "element")
    assert each.attrs["elements"].shape == (5, 3, 3)


def test_elements_apart_show_which_symmetry_is_broken(modified):
    """Reflections along the axes leave modified inertia exact; a rotation that moves the z axis does not."""
    f, x, reps = modified
    c, s = math.cos(1.0), math.sin(1.0)
    about_z = [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]
    about_x = [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]
    reflections = [torch.diag(torch.tensor(signs)).tolist() for signs in ([-1.0, 1, 1], [1.0, -1, 1], [1.0, 1, -1])]
    elements = torch.tensor([*reflections, about_z, about_x], dtype=torch.float64)
    error = equivariance_error(f, x, elements=elements, per_element=True, **reps).values
    assert (error[:4] < 1e-12).all()
    assert error[4] > 0.05


@pytest.mark.statistical
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_another_group_on_the_same_space(modified, dtype, bound):
    f, x, reps = modified
    subgroup = equivariance_error(f, x.to(dtype), group=O2eR3(), **reps)
    assert float(subgroup) < bound
    assert subgroup.attrs["group"] == "O2eR3"
    assert float(equivariance_error(f, x, group=SO(3), **reps)) == pytest.approx(0.0863, abs=0.003)


def test_another_group_on_a_posterior(fit_small, bodies):
    posterior = fit_small(bodies, EMLP)
    narrower = equivariance_error(posterior, bodies.test.x, group=SO(3))
    assert (narrower.attrs["group"], narrower.dims) == ("SO(3)", ("chain", "draw"))
    assert float(narrower.max()) < 1e-5


@pytest.mark.parametrize("parts", ["pseudoscalar", "dual"])
def test_a_larger_group_is_not_measured_with_what_a_smaller_one_forgot(parts):
    """Bound to SO(3), a pseudoscalar is a scalar and a dual a vector: rebinding must bring the difference back, or
    refuse."""
    rep, wide = (PseudoScalar, O(3)) if parts == "pseudoscalar" else (Vector.dual, SL(3))
    x = torch.randn(7, rep(wide).size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        error = equivariance_error(lambda v: v, x, group=wide, rep_in=rep(SO(3)), rep_out=rep(wide))
    except ValueError:
        return
    assert float(error) < 1e-12


def test_bare_function_takes_unbound_representations_with_a_group(modified):
    f, x, reps = modified
    unbound = equivariance_error(f, x, O(3), rep_in=5 * Scalar + 5 * Vector, rep_out=T(2))
    assert float(unbound) == float(equivariance_error(f, x, **reps))
    assert unbound.dims == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduction": "mean"}, r"mean_of_ratios, ratio_of_norms, geometric_mean, got 'mean'"),
        ({"rep_out": None}, r"needs rep_in and rep_out"),
        ({"rep_in": 5 * Scalar + 5 * Vector, "rep_out": T(2)}, r"needs a group"),
        ({"group": O(2)}, r"O\(3\) on R\^3; O\(2\) acts on R\^2"),
        ({"elements": torch.eye(3)}, r"elements must be a number or have shape \(element, 3, 3\), got \(3, 3\)"),
        ({"elements": 0}, r"elements"),
        ({"x": torch.zeros(4, 19)}, r"\(4, 19\).*needs \(batch, 20\)"),
        ({"x": torch.zeros(0, 20)}, r"\(0, 20\)"),
        ({"x": torch.full((4, 20), float("nan"))}, r"x holds NaN"),
        ({"rep_out": Vector(O(3))}, r"rep_out"),
    ],
    ids=["reduction", "no rep", "no group", "other space", "flat elements", "none", "width", "empty", "NaN", "rep_out"],
)
def test_bad_arguments_are_refused_by_name(modified, change, message):
    f, x, reps = modified
    with pytest.raises(ValueError, match=message):
        equivariance_error(f, **({"x": x[:4], **reps} | change))


def test_log_densities_have_no_equivariance_error():
    density = Posterior(LogDensity(lambda p: p["z"].sum(), {"z": torch.zeros(1)}), {"z": torch.zeros(1, 1, 1)})
    with pytest.raises(TypeError, match="BayesianModel"):
        equivariance_error(density, torch.zeros(1, 20))


def linear_posterior(parametrization, samples):
    network = RPPEMLP(2 * Vector, Vector + T(2), O(3), layers=0, parametrization=parametrization)
    return Posterior(BayesianModel(network, RPPPrior(), Gaussian(0.2)), samples)


def test_shares_of_any_weight_are_those_of_dense_projections():
    weight = torch.randn(2, 3, 12, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zeros = torch.zeros(2, 3, 12, dtype=torch.float64)
    collapsed = linear_posterior("collapsed", {"network.0.weight": weight, "network.0.bias": zeros})
    basis = collapsed.model.network.network[0].basis
    q, flat = basis.dense(), weight.flatten(2)
    expected = (flat @ q @ q.mT).square().sum(-1) / flat.square().sum(-1)
    shares = pathway_shares(collapsed)
    assert shares.dims == ("chain", "draw", "layer", "pathway")
    assert shares.layer.values.tolist() == ["network.0"]
    np.testing.assert_allclose(shares.sel(layer="network.0", pathway="equivariant"), expected, rtol=1e-12)
    np.testing.assert_allclose(shares.sum("pathway"), 1.0, rtol=1e-12)
    # The same weight in the other parametrization, however it is split between beta and dense.
    beta = torch.randn(2, 3, basis.rank, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dense = (flat - basis.expand(beta)).reshape(weight.shape)
    residual = linear_posterior("residual", {"network.0.beta": beta, "network.0.dense": dense})
    np.testing.assert_allclose(pathway_shares(residual), shares, rtol=1e-10)


@pytest.mark.parametrize("parametrization", ["residual", "collapsed"])
def test_no_dense_weight_is_all_equivariant(parametrization):
    basis = linear_posterior("residual", {}).model.network.network[0].basis
    beta = torch.ones(1, 1, basis.rank)
    weight = basis.expand(beta).reshape(1, 1, 12, 6)
    split = {"network.0.beta": beta, "network.0.dense": torch.zeros(1, 1, 12, 6)}
    posterior = linear_posterior(
        parametrization, split if parametrization == "residual" else {"network.0.weight": weight}
    )
    assert pathway_shares(posterior).sel(pathway="equivariant").item() == pytest.approx(1.0, abs=1e-6)
    assert pathway_shares(posterior).sel(pathway="dense").item() == pytest.approx(0.0, abs=1e-6)


def test_every_rpp_layer_has_its_shares_and_other_networks_have_none(fit_small, bodies):
    assert pathway_shares(fit_small(bodies)).layer.values.tolist() == ["network.0.linear", "network.1"]
    for network in (MLP, EMLP):
        with pytest.raises(ValueError, match=f"{network.__name__} has no residual pathway layer"):
            pathway_shares(fit_small(bodies, network, epochs=1))


def test_summary_is_minimum_median_maximum():
    error = equivariance_error(skewed, torch.eye(6), O(3), rep_in=2 * Vector, rep_out=Vector, per_element=True)
    values = sorted(error.values.tolist())
    middle = (values[3] + values[4]) / 2
    assert summarize(error) == {"minimum": values[0], "median": pytest.approx(middle), "maximum": values[-1]}


def test_a_network_knows_its_own_representations():
    network = EMLP(Vector, Vector, SO(3), channels=8, layers=1).double()
    assert float(equivariance_error(network, torch.randn(5, 3, dtype=torch.float64))) < 1e-12


def test_a_representation_is_measured_under_another_group_as_it_is_there():
    """Irreps are numbered anew in a subgroup, and factors may come in another order: neither may change the meaning."""
    x = torch.randn(20, 15, generator=torch.Generator().manual_seed(0)).double()
    irrep, tensor = Irrep(2)(D(4)), Vector(O(3)) * Vector(S(5))
    assert equivariance_error(lambda v: v, x[:, :1], D(2), rep_in=irrep, rep_out=irrep) == 0
    assert equivariance_error(lambda v: v, x, S(5) * O(3), rep_in=tensor, rep_out=tensor) < 1e-12
    lifted = {"rep_in": Vector(O(3)), "rep_out": Vector(O(3))}
    assert equivariance_error(lambda v: v, x[:, :3], O(3) * S(5), **lifted) < 1e-12
    harmonic = Irrep(2)(SO(3))
    assert equivariance_error(lambda v: v, x[:, :5], SO2eR3(), rep_in=harmonic, rep_out=harmonic) < 1e-12
    with pytest.raises(ValueError, match="other factors"):
        equivariance_error(lambda v: v, x, SO(8), rep_in=tensor, rep_out=tensor)
