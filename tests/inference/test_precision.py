"""Offsets and units are taken out in float64, and what rounding loses is said."""

import warnings

import pytest
import torch

from analysis import equivariance_error, local_equivariance_error
from bayes_rpp import (
    RPPEMLP,
    SO,
    BayesianModel,
    Gaussian,
    NormalizedNetwork,
    ResidualSum,
    RPPPrior,
    Scalar,
    Standardizer,
    T,
    Vector,
)
from inference import HMC, MAP, NUTS, SGHMC, SGLD, DeepEnsemble, EmpiricalBayes, Laplace, Posterior
from inference.data import resolve_data
from tests.scenarios.numbers import numbers

REP_IN, REP_OUT = (Scalar + Vector)(SO(2)), (Scalar + T(2))(SO(2))
X, Y = numbers(40, 3), numbers(40, 5, seed=1)
FAR_X = X + torch.tensor([1e7, 0.0, 0.0]).double()
FAR_Y = Y + torch.tensor([1e9, 1e7, 0.0, 0.0, 1e7]).double()  # a multiple of the identity is invariant
NETWORK = RPPEMLP(REP_IN, REP_OUT, SO(2), channels=10, layers=1)
SAMPLER = {"chains": 2, "warmup": 3, "draws": 4}
ENGINES = {
    "MAP": MAP(epochs=5),
    "ensemble": DeepEnsemble(members=2, epochs=5),
    "Laplace": Laplace("last_layer", draws=3, mode=MAP(epochs=5)),
    "empirical Bayes": EmpiricalBayes(epochs=4),
    "HMC": HMC(metric="diagonal", trajectory_length=0.01, **SAMPLER),
    "HMC, full": HMC(metric="full", trajectory_length=0.01, **SAMPLER),
    "HMC, pathway": HMC(metric="pathway", trajectory_length=0.01, **SAMPLER),
    "NUTS": NUTS(max_tree_depth=2, metric="diagonal", **SAMPLER),
    "SGLD": SGLD(step_size=1e-6, **SAMPLER),
    "SGHMC": SGHMC(step_size=1e-4, **SAMPLER),
}


def model(x, y):
    normalized = NormalizedNetwork.fit(NETWORK, x, y)
    return BayesianModel(normalized, RPPPrior(), Gaussian(tuple((0.1 * normalized.outputs.scale.square()).tolist())))


def test_a_standardiser_takes_offsets_out_before_it_rounds():
    near, far = (NormalizedNetwork.fit(NETWORK, x, y) for x, y in ((X, Y), (FAR_X, FAR_Y)))
    for network in (far, far.to(torch.float32), BayesianModel(far, RPPPrior(), Gaussian(1.0)).to("cpu").network):
        assert network.inputs.mean.dtype == network(FAR_X).dtype == torch.float64
        assert next(network.parameters()).dtype == torch.float32
        torch.testing.assert_close(network(FAR_X) - FAR_Y + Y, near(X), rtol=0, atol=1e-5)


def test_a_column_about_a_large_value_is_no_constant():
    x = torch.stack([1e9 + X[:, 0], torch.full((40,), 1e9).double(), 1e-9 * X[:, 1]], dim=1)
    standard = Standardizer.fit(x, (3 * Scalar)(SO(2)))(x)
    assert standard.std(0, correction=0).tolist() == pytest.approx([1.0, 0.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_engines_fit_far_data_as_near_ones(engine, tmp_path):
    near = engine.fit(model(X, Y), (X, Y), seed=0, progress=False)
    far = engine.fit(model(FAR_X, FAR_Y), (FAR_X, FAR_Y), seed=0, progress=False)
    assert all(value.dtype == torch.float32 for value in far.samples.values())
    loaded = Posterior.load(far.save(tmp_path / "far"))
    for posterior in (far, loaded):
        predicted = posterior.predict(FAR_X).mean
        assert predicted.dtype == torch.float64
        misses = (predicted - FAR_Y + Y) - near.predict(X).mean
        # Newton steps on a flat density magnify rounding: near the data is all that can be asked of them.
        assert misses.abs().max() < (100.0 if isinstance(engine, Laplace) else 0.02)


def test_outputs_keep_their_offset_beside_inputs_in_single_precision():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, y = resolve_data(model(X.float(), FAR_Y), (X.float(), FAR_Y))
    assert x.dtype == torch.float32
    assert torch.equal(y, FAR_Y)
    near, far = (MAP(epochs=5).fit(model(X.float(), y), (X.float(), y), seed=0) for y in (Y, FAR_Y))
    assert (far.predict(X.float()).mean - FAR_Y + Y - near.predict(X.float()).mean).abs().max() < 1e-3


def test_a_sum_of_networks_takes_offsets_out_as_its_parts_do():
    def fitted(x, y, parts=2):
        plain = RPPEMLP(REP_IN, REP_OUT, SO(2), channels=4, layers=1)
        network = ResidualSum(model(x, y).network, model(x, Y).network if parts == 2 else plain)
        return MAP(epochs=5).fit(BayesianModel(network, RPPPrior(), Gaussian(1.0)), (x, y), seed=0)

    near, far = fitted(X, Y), fitted(FAR_X, FAR_Y)
    assert far.model.network.input_dtype == far.model.network.output_dtype == torch.float64
    assert all(torch.equal(part, given) for part, given in zip(far.data, (FAR_X, FAR_Y), strict=True))
    assert (far.predict(FAR_X).mean - FAR_Y + Y - near.predict(X).mean).abs().max() < 1e-3
    mixed = fitted(X, FAR_Y, parts=1)  # the plain part takes and gives float32
    assert mixed.predict(X).mean.dtype == torch.float64
    assert (mixed.predict(X).mean - FAR_Y).abs().max() < 100
    nested = NormalizedNetwork.fit(far.model.network, X.float(), Y.float())  # about a network that takes float64
    assert nested.input_dtype == torch.float64


def test_inputs_whose_digits_are_gone_are_warned_of_where_they_are_given():
    far = model(FAR_X, Y)
    posterior = MAP(epochs=1).fit(far, (FAR_X, Y), seed=0)
    linearised = Laplace("last_layer", draws=2, mode=MAP(epochs=1)).fit(far, (FAR_X, Y), seed=0)
    both = BayesianModel(ResidualSum(far.network, far.network), RPPPrior(), Gaussian(1.0))
    uses = {
        "predict": posterior.predict,
        "one point": lambda x: posterior.predict(x[:1]),
        "sum": MAP(epochs=1).fit(both, (FAR_X, Y), seed=0).predict,
        "linearised": linearised.functional_variance,
        "equivariance_error": lambda x: equivariance_error(posterior, x),
        "local_equivariance_error": lambda x: local_equivariance_error(posterior, x),
        "of a network": lambda x: equivariance_error(far.network, x),
    }
    message = r"number 1 of x was fitted about 1e\+07 on a scale of .*float32 .* steps of 1 there: .* in float64"
    for use in uses.values():
        with pytest.warns(UserWarning, match=message):
            use(FAR_X.float())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use(FAR_X)
    constant = torch.cat([torch.full((40, 1), 1e7).double(), X[:, 1:]], dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MAP(epochs=1).fit(model(constant, Y), (constant, Y), seed=0).predict(constant.float())
        MAP(epochs=1).fit(model(X, Y), (X, Y), seed=0).predict(1e9 * X.float())


def test_casts_that_lose_data_are_warned_of():
    plain = BayesianModel(RPPEMLP(REP_IN, Scalar, SO(2), channels=8, layers=1), RPPPrior(), Gaussian(1.0))
    for x, y, name in ((FAR_X, Y[:, :1], "x"), (X, FAR_Y[:, :1], "y")):
        with pytest.warns(UserWarning, match=rf"number 1 of {name} varies by \S+ .*float32 .*NormalizedNetwork"):
            resolve_data(plain, (x, y))
    with pytest.warns(UserWarning, match=r"number 1 of x varies"):
        Standardizer.fit(FAR_X.float(), REP_IN, "x")
    with pytest.warns(UserWarning, match=r"number 1 of x varies by \S+ .* float32 keeps .* in float64"):
        resolve_data(model(FAR_X, Y), (FAR_X.float(), Y))
    with pytest.warns(UserWarning, match=r"number 1 of x .* float64 keeps steps of 0\.2: .* rounded. Subtract"):
        resolve_data(model(X, Y), (X + torch.tensor([1e15, 0.0, 0.0]).double(), Y))
    constant = torch.cat([torch.full((40, 1), 1e7).double(), X[:, 1:]], dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve_data(plain, (constant, Y[:, :1]))
        resolve_data(plain.to(dtype=torch.float64), (FAR_X, Y[:, :1]))
        resolve_data(model(FAR_X, FAR_Y), (FAR_X, FAR_Y))


def test_a_mean_that_the_group_turns_is_warned_of():
    far = X + torch.tensor([0.0, 1e4, 0.0]).double()
    with pytest.warns(UserWarning, match=r"numbers 2 to 3 of x .* mean \S+ times .* SO\(2\) turns it.*centre of mass"):
        Standardizer.fit(far, REP_IN, "x")
