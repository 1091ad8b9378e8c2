"""Convergence judged by functions: against ArviZ, against chains whose answer is known, and in words."""

import arviz
import numpy as np
import pytest
import torch

from analysis import convergence, equivariance_error, pathway_shares
from bayes_rpp import EMLP, MLP, BayesianModel, Categorical, Gaussian, LogDensity, RPPPrior
from inference import Posterior
from tests.arviz_versions import ess
from tests.error_rate import z_limit
from tests.seeds import shifted

CHAINS, DRAWS = 4, 1000


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shifted(seed)), dtype=torch.float64)


def density_posterior(samples, **fields):
    """A posterior of a log density with given draws."""
    example = {name: value[0, 0] for name, value in samples.items()}
    density = LogDensity(lambda params: -0.5 * sum(value.square().sum() for value in params.values()), example)
    return Posterior(density, samples, **fields)


def autoregressive(rho, *shape, seed=0):
    """z_t = rho z_(t-1) + sqrt(1 - rho^2) xi_t along the second dimension, with standard normal marginals."""
    noise = normal(*shape, seed=seed)
    z = noise.clone()
    for t in range(1, shape[1]):
        z[:, t] = rho * z[:, t - 1] + (1 - rho**2) ** 0.5 * noise[:, t]
    return z


@pytest.fixture
def make_posterior(bodies):
    """Independent draws of a small network's parameters: as many chains as are asked for, about one state."""

    def make(network=MLP, likelihood=None, chains=CHAINS, draws=50, spread=0.05, dtype=torch.float64, **options):
        net = network(bodies.rep_in, bodies.rep_out, bodies.group, channels=8, layers=1, **options).to(dtype)
        model = BayesianModel(net, RPPPrior(), likelihood or Gaussian(0.2, learned=True))
        state = model.initial_params(0)
        samples = {
            name: (value * (1 + spread * normal(chains, draws, *value.shape, seed=index))).to(dtype)
            for index, (name, value) in enumerate(state.items())
        }
        if "noise_variance" in samples:
            samples["noise_variance"] = (0.1 * normal(chains, draws, *state["noise_variance"].shape, seed=99)).exp()
        labels = isinstance(likelihood, Categorical)
        y = torch.arange(len(bodies.train.x)) % 9 if labels else bodies.train.y.to(dtype)
        return Posterior(model, samples, data=(bodies.train.x.to(dtype), y))

    return make


def r_hats_by_arviz(values):
    """The least and the largest R-hat that rounding allows.

    R-hat ranks the distances from the median, and the two values beside the median are equally far from it: which of
    them comes first depends on the last bit. An odd chain is halved without its middle draw.
    """
    draws = values.shape[1]
    halves = np.delete(values, draws // 2, axis=1) if draws % 2 else values
    below, above = np.argsort(halves, axis=None)[halves.size // 2 - 1 : halves.size // 2 + 1]
    folded = np.abs(halves - np.median(halves))
    found = []
    for step in (-1e-12, 0.0, 1e-12):
        folded.flat[below] = folded.flat[above] + step * np.ptp(halves)
        found.append(max(arviz.rhat(part, method="z_scale") for part in (halves, folded)))
    return min(found), max(found)


def by_arviz(values):
    """The least and the largest that the worst over the elements may be, by ArviZ alone."""
    flat = values.reshape(*values.shape[:2], -1)
    r_hats = [r_hats_by_arviz(flat[..., i]) for i in range(flat.shape[2])]
    each = {
        "ess_bulk": min(ess(flat[..., i], "bulk") for i in range(flat.shape[2])),
        "ess_tail": min(ess(flat[..., i], "tail") for i in range(flat.shape[2])),
        "mcse_mean": max(arviz.mcse(flat[..., i], method="mean") for i in range(flat.shape[2])),
    }
    return {"r_hat": tuple(map(max, zip(*r_hats, strict=True))), **{key: (one, one) for key, one in each.items()}}


def assert_as_by_arviz(found, name, values):
    for key, (least, largest) in by_arviz(np.asarray(values)).items():
        judged = float(found.table[key].sel(function=name))
        assert least * (1 - 1e-9) <= judged <= largest * (1 + 1e-9), key


@pytest.mark.statistical
def test_log_densities_are_judged_element_by_element_as_by_arviz():
    posterior = density_posterior({"w": autoregressive(0.7, 3, 501, 3, 2), "v": 5 + normal(3, 501, seed=1)})
    found = convergence(posterior)
    assert found.table.function.values.tolist() == ["log density", "w", "v"]
    assert found.table.elements.values.tolist() == [1, 6, 1]
    assert_as_by_arviz(found, "log density", posterior.log_joint())
    assert_as_by_arviz(found, "w", posterior.samples["w"])
    assert_as_by_arviz(found, "v", posterior.samples["v"])
    bulk = [[arviz.rhat(posterior.samples["w"][..., i, j].numpy()) for j in range(2)] for i in range(3)]
    i, j = np.unravel_index(np.argmax(bulk), (3, 2))
    assert found.table.r_hat_element.sel(function="w").item() == f"w[{i}, {j}]"


@pytest.mark.statistical
def test_networks_are_judged_by_their_functions_as_by_arviz(make_posterior, bodies):
    posterior = make_posterior()
    found = convergence(posterior)
    functions = ["log joint", "prediction", "equivariance error", "noise_variance"]
    assert found.table.function.values.tolist() == functions
    assert found.table.elements.values.tolist() == [1, 45, 1, 1]
    spread_out = posterior.data[0][[0, 10, 20, 29, 39]]
    assert_as_by_arviz(found, "log joint", posterior.log_joint())
    assert_as_by_arviz(found, "prediction", posterior.outputs(spread_out))
    assert_as_by_arviz(found, "equivariance error", equivariance_error(posterior, spread_out))
    assert_as_by_arviz(found, "noise_variance", posterior.samples["noise_variance"])
    at = convergence(posterior, bodies.test.x[:3])
    assert_as_by_arviz(at, "prediction", posterior.outputs(bodies.test.x[:3]))
    assert_as_by_arviz(at, "equivariance error", equivariance_error(posterior, bodies.test.x[:3]))


RHOS = (-0.4, 0.0, 0.6, 0.9)


def sampling_error(rho, total):
    """The relative standard error of an estimated autocorrelation time, sqrt(2 (2 M + 1) / n), when M lags are summed:
    as many as stand out of the noise, and 3, the first pairs, at least (Sokal, "Monte Carlo methods in statistical
    mechanics", 1997, section 3).
    """
    lags = max(3, np.log(total) / (2 * -np.log(abs(rho))) if rho else 0)
    return np.sqrt(2 * (2 * lags + 1) / total)


@pytest.mark.statistical
def test_effective_draws_of_autoregressive_chains_are_known():
    """n (1 - rho) / (1 + rho); the Monte Carlo error is 1 / sqrt of that, and half as uncertain."""
    draws = 20_000
    chains = {str(rho): autoregressive(rho, CHAINS, draws, seed=i) for i, rho in enumerate(RHOS)}
    found = convergence(density_posterior(chains))
    threshold = z_limit(2 * len(RHOS))
    for rho in RHOS:
        row, total = found.table.sel(function=str(rho)), CHAINS * draws
        expected, error = total * (1 - rho) / (1 + rho), sampling_error(rho, total)
        assert abs(float(row.ess_bulk) / expected - 1) < threshold * error
        assert abs(float(row.mcse_mean) * expected**0.5 - 1) < threshold * (error / 2 + 0.5 / expected**0.5)
        assert float(row.r_hat) < 1.01
    assert "4 chains agree" in found.verdict


@pytest.mark.statistical
@pytest.mark.parametrize("difference", ["mean", "variance", "trend"])
def test_chains_that_differ_are_refused(difference):
    """Each kind is seen by one part of R-hat: chains' means, folded values, and halves of chains."""
    draws = normal(CHAINS, DRAWS)
    assert "4 chains agree" in convergence(density_posterior({"z": draws})).verdict
    if difference == "mean":
        draws[2] += 1
    elif difference == "variance":
        draws[2] *= 3
    else:
        draws += torch.linspace(-1, 1, DRAWS)
    found = convergence(density_posterior({"z": draws}))
    assert float(found.table.r_hat.sel(function="z")) > 1.05
    assert found.verdict.startswith("The chains do not agree: R-hat 1.")
    worst = found.table.r_hat.idxmax("function").item()  # the log density sees variances as well as z
    assert worst == "z" or difference == "variance"
    assert f" of {worst}, where agreement is below 1.01; run longer" in found.verdict


@pytest.mark.statistical
def test_hidden_units_may_be_permuted_between_chains(make_posterior):
    """The reason for functions: the weights' own chains look as if they never met, and the functions agree."""
    posterior = make_posterior(draws=DRAWS)
    hidden = [name for name in posterior.samples if name != "noise_variance"]
    first, last = hidden[0].rsplit(".", 1)[0], hidden[-1].rsplit(".", 1)[0]
    order = torch.arange(len(posterior.samples[f"{first}.bias"][0, 0])).flip(0)
    reference = posterior.outputs(posterior.data[0])
    for name in (f"{first}.weight", f"{first}.bias"):
        posterior.samples[name][1] = posterior.samples[name][1][:, order]
    posterior.samples[f"{last}.weight"][1] = posterior.samples[f"{last}.weight"][1][..., order]
    assert torch.allclose(posterior.outputs(posterior.data[0]), reference)
    assert max(arviz.rhat(posterior.samples[f"{first}.weight"][..., i, 0].numpy()) for i in range(3)) > 1.5
    assert convergence(posterior).verdict.startswith("4 chains agree")


def test_offsets_and_units_of_a_function_do_not_matter():
    z = autoregressive(0.5, CHAINS, DRAWS)
    functions = {"tiny": lambda _: 1e-20 * z, "offset": lambda _: (1e6 + z).numpy(), "same": lambda _: z}
    table = convergence(density_posterior({"z": z}), functions=functions).table
    for key in ("r_hat", "ess_bulk", "ess_tail"):
        values = table[key].sel(function=["z", "tiny", "offset", "same"])
        assert np.allclose(values, values[0], rtol=1e-6)
    assert float(table.mcse_mean.sel(function="tiny")) == pytest.approx(
        1e-20 * float(table.mcse_mean.sel(function="z"))
    )


def test_functions_of_ones_own_are_judged_besides(fit_small, bodies):
    fitted = fit_small(bodies, members=8, epochs=1)
    samples = {name: value.reshape(2, 4, *value.shape[2:]) for name, value in fitted.samples.items()}
    posterior = Posterior(fitted.model, samples, data=fitted.data)
    own = {"shares": pathway_shares, "first": lambda p: p.outputs(bodies.test.x)[..., 0, 0]}
    table = convergence(posterior, functions=own).table
    assert table.function.values.tolist() == ["log joint", "prediction", "equivariance error", "shares", "first"]
    shares = pathway_shares(posterior)
    assert int(table.elements.sel(function="shares")) == int(shares.notnull().all(("chain", "draw")).sum())
    label = table.r_hat_element.sel(function="shares").item()
    assert label.startswith("shares at layer network.")
    assert label.endswith(("pathway equivariant", "pathway dense"))


def test_functions_that_cannot_be_judged_are_refused():
    posterior = density_posterior({"z": normal(2, 10)})
    with pytest.raises(ValueError, match=r"functions names 'z', which is judged anyway"):
        convergence(posterior, functions={"z": lambda p: p.samples["z"]})
    with pytest.raises(ValueError, match=r"'mean' have shape \(2,\); expected \(chain, draw, ...\) = \(2, 10, ...\)"):
        convergence(posterior, functions={"mean": lambda p: p.samples["z"].mean(1)})


def test_points_are_needed_where_there_are_no_data(make_posterior, bodies):
    posterior = make_posterior(likelihood=Gaussian(0.2))
    posterior.data = None
    with pytest.raises(ValueError, match="holds no training data: pass x"):
        convergence(posterior)
    found = convergence(posterior, bodies.test.x[:2])
    assert found.table.function.values.tolist() == ["prediction", "equivariance error"]
    with pytest.raises(TypeError, match="pass model="):
        convergence(Posterior(None, posterior.samples), bodies.test.x)


def test_logits_are_predictions_too(make_posterior):
    table = convergence(make_posterior(likelihood=Categorical())).table
    assert table.elements.to_series().to_dict() == {"log joint": 1, "prediction": 45, "equivariance error": 1}


@pytest.mark.statistical
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_errors_of_an_equivariant_network_are_no_function(make_posterior, dtype):
    posterior = make_posterior(EMLP, Gaussian(0.2), dtype=dtype, draws=DRAWS)
    assert float(equivariance_error(posterior, posterior.data[0]).max()) > 0
    found = convergence(posterior)
    row = found.table.sel(function="equivariance error")
    assert (int(row.constant), int(row.elements)) == (1, 1)
    assert np.isnan(row.r_hat)
    assert "The same in every draw: equivariance error." in found.verdict
    assert "4 chains agree" in found.verdict
    assert "nan" not in found.verdict


def test_the_verdict_names_the_effective_draws_of_the_error_and_the_worst(make_posterior):
    posterior = make_posterior(draws=DRAWS)
    found = convergence(posterior)
    effective = np.minimum(found.table.ess_bulk, found.table.ess_tail)
    error, least = float(effective.sel(function="equivariance error")), float(effective.min())
    assert (
        f"{error:.0f} effective draws of the equivariance error, {least:.0f} of the worst function (" in found.verdict
    )
    assert f"largest R-hat {float(found.table.r_hat.max()):.5g}, of " in found.verdict


def test_the_text_holds_the_table_and_the_verdict(make_posterior):
    found = convergence(make_posterior())
    header, *rows, empty, verdict = str(found).splitlines()
    assert header.split() == ["function", "R-hat", "bulk", "ESS", "tail", "ESS", "MCSE", "mean", "elements"]
    assert [row.split("  ")[0] for row in rows] == found.table.function.values.tolist()
    assert [float(row.split()[-5]) for row in rows] == pytest.approx(found.table.r_hat.values, rel=1e-3)
    assert (empty, verdict) == ("", found.verdict)
