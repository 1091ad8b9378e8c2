"""What a Laplace approximation offers beyond its draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Distribution
from torch import Tensor
from torch.func import jacrev, vmap

from bayes_rpp.likelihoods import Categorical, Gaussian
from bayes_rpp.types import Params
from inference.curvature.block_gaussian import GaussianApproximation
from inference.curvature.block_structure import Structure
from inference.curvature.gauss_newton import network_model
from inference.curvature.hessian_blocks import Precision, prior_precision
from inference.density.unconstrained import UnconstrainedDensity
from inference.posterior.posterior import Posterior
from inference.posterior.predictive import Prediction, predict_categorical, predict_gaussian

_NUMBERS_AT_ONCE = 2**24


@dataclass(repr=False, eq=False)
class LaplacePosterior(Posterior):
    """Draws of N(z*, H^-1), and what the Gaussian gives in closed form.

    ``save`` writes the draws alone: what is loaded again is a plain Posterior.

    Attributes
    ----------
    approximation : N(z*, H^-1) over the free coordinates, on the device of the fit, in float64.
    mode_log_joint : log p(y, z* | x) at the mode z*, a density over free coordinates, over the temperature. The
        evidence is ``approximation.log_integral(mode_log_joint)``.
    structure : which coordinates H couples.
    precision : H, the data's part and the prior's.
    density : the model as a density over free coordinates, in float64.
    """

    approximation: GaussianApproximation = field(kw_only=True)
    mode_log_joint: float = field(kw_only=True)
    structure: Structure = field(kw_only=True)
    precision: Precision = field(kw_only=True)
    density: UnconstrainedDensity = field(kw_only=True)

    @property
    def mode(self) -> Params:
        """The constrained parameters at the mode, in float64, on the device of the fit."""
        return self.density.params(self.approximation.mean)

    def with_prior(self, distributions: Mapping[str, Distribution]) -> GaussianApproximation:
        """The Gaussian that other priors would give around the same mode, with the same curvature of the data.

        Differentiable in the tensors of the distributions: to choose variances by the evidence, give PathwayNormals
        whose variances require gradients (MacKay, 1992; Immer et al., ICML 2021).

        Parameters
        ----------
        distributions : new priors of parameters, by name; others keep the model's.

        Raises
        ------
        ValueError
            If a name is none of the model's.
        TypeError
            If the model is a LogDensity, whose prior cannot be separated from its data.
        """
        given = network_model(self.density, "a change of the prior").prior_distributions
        if unknown := sorted(set(distributions) - set(given)):
            raise ValueError(f"distributions names {unknown[0]!r}; the model's parameters are {list(given)}.")
        mean = self.approximation.mean
        prior = prior_precision(self.density, mean, self.structure, {**given, **distributions})
        total = replace(self.precision, prior=prior).total
        return GaussianApproximation(mean, list(zip(self.structure.spans, total, strict=True)))

    def linearized(self, x: Float[Tensor, "batch *input"]) -> Prediction:
        """The predictive of the network that is linear in its parameters around the mode (Immer, Korzepa & Bauer,
        AISTATS 2021).

            f(x; z) ~ f(x; z*) + J(x) (z - z*),    epistemic = diag(J H^-1 J^T)

        The draws of a curvature that neglects couplings scatter far from the mode, where the network itself is not the
        one that H describes; this one fits them.

        Returns
        -------
        Prediction as of ``predict``, whose ``samples`` are linearised outputs at this posterior's draws. For a Gaussian
        likelihood ``mean`` and ``epistemic`` are exact; for a Categorical one all moments are those of the samples.

        Raises
        ------
        ValueError
            If x does not fit the network, or holds NaN.
        TypeError
            If the model is a LogDensity, or its likelihood has no known predictive variance.
        """
        likelihood = self.bayesian_model.likelihood
        if not isinstance(likelihood, Gaussian | Categorical):
            raise TypeError(
                f"no predictive variance is known for {type(likelihood).__name__}; use `functional_variance`."
            )
        moves = self.density.free(self.samples)[0].to(self.approximation.mean) - self.approximation.mean
        means, variances, draws = [], [], []
        for mean, jacobian in self._jacobians(x):
            means.append(mean)
            variances.append(self.approximation.project(jacobian).diagonal(dim1=-2, dim2=-1).reshape(mean.shape))
            draws.append(mean + torch.einsum("boz,sz->sbo", jacobian, moves).reshape(-1, *mean.shape))
        dtype = next(iter(self.samples.values())).dtype
        samples = torch.cat(draws, dim=1)[None].to(dtype).cpu()
        if isinstance(likelihood, Categorical):
            return predict_categorical(samples)
        noise = torch.as_tensor(likelihood.noise(self.samples), dtype=dtype)
        prediction = predict_gaussian(samples, noise)
        mean, epistemic = (torch.cat(parts).to(dtype).cpu() for parts in (means, variances))
        return replace(prediction, mean=mean, epistemic=epistemic)

    def functional_variance(self, x: Float[Tensor, "batch *input"]) -> Float[Tensor, "batch output output"]:
        """J(x) H^-1 J(x)^T, the covariance of the (flattened) outputs at each input, in float64.

        Raises
        ------
        ValueError
            If x does not fit the network, or holds NaN.
        """
        parts = [self.approximation.project(jacobian) for _, jacobian in self._jacobians(x)]
        return torch.cat(parts).cpu()

    def functional_variance_of(self, function: Callable[[Params], Tensor]) -> Float[Tensor, "*output_and_output"]:
        """The covariance of any smooth function of the parameters, by the delta method: J H^-1 J^T.

        Parameters
        ----------
        function : of the dict of constrained parameters, in the model's type and on the CPU; pure, and made of torch
            operations. The equivariance error, for example.

        Returns
        -------
        (*output, *output), in float64: a number for a scalar function, a matrix for a vector.

        Examples
        --------
        >>> posterior.functional_variance_of(lambda params: params["network.0.dense"].square().sum()).sqrt()
        """
        like = {name: value.dtype for name, value in self.samples.items()}

        def of_free(z: Tensor) -> Tensor:
            return function({name: value.cpu().to(like[name]) for name, value in self.density.params(z).items()})

        with pyro.validation_enabled(False):
            jacobian = jacrev(of_free)(self.approximation.mean)
        shape = jacobian.shape[:-1]
        covariance = self.approximation.project(jacobian.reshape(-1, self.approximation.size))
        return covariance.reshape(shape + shape).cpu()

    @torch.no_grad()
    def _jacobians(self, x: Tensor) -> Iterator[tuple[Float[Tensor, "rows *output"], Float[Tensor, "rows flat size"]]]:
        """The outputs at the mode and their Jacobians in z, some rows at a time."""
        self.bayesian_model.check_inputs(x := torch.as_tensor(x).cpu())
        model, z = network_model(self.density, "a linearised network"), self.approximation.mean
        inputs = model.as_input(x).to(z.device)

        def output(v: Tensor, row: Tensor) -> Tensor:
            return model.output(self.density.params(v), row[None])[0]

        outputs = output(z, inputs[0]).numel() if len(inputs) else 1
        for rows in inputs.split(max(1, _NUMBERS_AT_ONCE // (self.density.size * outputs))):
            with torch.enable_grad():
                jacobian = vmap(jacrev(output), in_dims=(None, 0))(z, rows)
            yield model.output(self.density.params(z), rows), jacobian.reshape(len(rows), outputs, -1).detach()
