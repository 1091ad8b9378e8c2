"""Curvature of the negative log joint: Gauss-Newton rows of the likelihood, and Hessians at fixed outputs.

    H = sum_i J_i^T F_i J_i + Hess(-log prior - log |Jacobian|) = R^T R + P

J_i is the Jacobian of the network's output f_i in the free coordinates, F_i = -d^2 log p(y_i | f_i) / d f_i^2, or the
Fisher information where the likelihood gives that, and the rows of R are those of F_i^(1/2) J_i (Schraudolph, Neural
Computation 2002). The likelihood's own parameters are taken with the prior: their block of P is the Hessian at fixed
outputs; it leaves out their coupling with the weights, which is zero in expectation. So are variances with hyperpriors,
with their block at fixed weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import biject_to
from torch.func import grad, jacrev, vjp, vmap

from bayes_rpp import BayesianModel
from bayes_rpp.forward_mode import jvp
from bayes_rpp.likelihoods.likelihood import output_curvature, output_curvature_product
from bayes_rpp.types import Params
from bayes_rpp.validation import without_validation
from inference.density.unconstrained import UnconstrainedDensity, to_constrained

_NUMBERS_AT_ONCE = 2**24
_PROBES_AT_ONCE = 16  # each holds the activations of all examples
_EXAMPLES_TRIED = 16


def network_model(density: UnconstrainedDensity, purpose: str) -> BayesianModel:
    """The model of a density; raises TypeError if it is a LogDensity, which has no outputs."""
    if not isinstance(density.model, BayesianModel):
        raise TypeError(
            f"{purpose} needs the outputs of a BayesianModel; a LogDensity has none. Samplers take metric=None or "
            "'identity' for it."
        )
    return density.model


def network_and_data(density: UnconstrainedDensity, purpose: str) -> tuple[BayesianModel, Tensor, Tensor]:
    """The model of a density, and its data (x, y); raises as ``network_model``."""
    model = network_model(density, purpose)
    assert density.pair is not None
    return model, *density.pair


def beside_network(model: BayesianModel) -> list[str]:
    """The parameters that are not the network's: variances with hyperpriors, and those of the likelihood."""
    return [*model.hyperpriors, *model.likelihood.constraints()]


def require_curvature(density: UnconstrainedDensity, z: Float[Tensor, " size"]) -> None:
    """Raise TypeError if the log likelihood of some examples has a slope in the outputs, but no curvature in any: that
    of an absolute error is of lines, and the Gauss-Newton matrix of its second derivatives would be 0.
    """
    model, x, y = network_and_data(density, "the Gauss-Newton matrix")
    params, x, y = density.params(z), x[:_EXAMPLES_TRIED], y[:_EXAMPLES_TRIED]
    with without_validation():
        outputs = model.output(params, x).detach()
        slope = grad(lambda f: model.likelihood.log_prob(f, y, params).sum())(outputs)
        if slope.any() and not output_curvature(model.likelihood, outputs, y, params).any():
            raise TypeError(
                f"the log likelihood of {type(model.likelihood).__name__} has no curvature in the network's outputs, "
                "only kinks: give it a method output_curvature(output, y, params), its Fisher information, as "
                "LaplaceNoise has; or take a sampler with metric=None."
            )


def gauss_newton_rows(
    density: UnconstrainedDensity, z: Float[Tensor, "start size"], wanted: slice = slice(None)
) -> Iterator[Float[Tensor, "rows size"]]:
    """R in the wanted coordinates, some rows at a time, of a BayesianModel. Of several vectors z, each is used for its
    share of the examples, which gives about the mean over them.
    """
    model, examples, labels = network_and_data(density, "the Gauss-Newton matrix")
    outputs = model.output(density.params(z[0]), examples[:1]).numel()
    at_once = max(1, _NUMBERS_AT_ONCE // (density.size * outputs))

    def example_rows(start: Tensor, x: Tensor, y: Tensor) -> Float[Tensor, "output size"]:
        """F^(1/2) J of one example."""
        output, params = _outputs(density, start, x[None])[0], density.params(start)
        jacobian = jacrev(lambda v: _outputs(density, v, x[None]).flatten())(start)
        root = curvature_roots(model, output[None], y[None], params)[0]
        return root.to(jacobian) @ jacobian  # outputs may be of a wider type than the weights

    with without_validation():
        for number, start in enumerate(z[: len(examples)]):
            own = slice(number, None, len(z))
            for x, y in zip(examples[own].split(at_once), labels[own].split(at_once), strict=True):
                rows = vmap(example_rows, in_dims=(None, 0, 0))(start, x, y)
                yield (rows.flatten(0, 1)[:, wanted] / density.temperature**0.5).detach()


def _outputs(density: UnconstrainedDensity, z: Tensor, x: Tensor) -> Tensor:
    return network_model(density, "the Gauss-Newton matrix").output(density.params(z), x)


def curvature_roots(
    model: BayesianModel, outputs: Float[Tensor, "batch *output"], y: Tensor, params: Params
) -> Float[Tensor, "batch output output"]:
    """F_i^(1/2) of every example, symmetric; directions in which the log likelihood is not concave count as flat."""
    values, vectors = torch.linalg.eigh(output_curvature(model.likelihood, outputs, y, params))
    root: Tensor = (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT
    return root


def gauss_newton_product(
    density: UnconstrainedDensity, z: Float[Tensor, " size"], vectors: Float[Tensor, "vector size"]
) -> Float[Tensor, "vector size"]:
    """(R^T R) v for several vectors, without forming anything of size x size."""
    model, x, y = network_and_data(density, "the Gauss-Newton matrix")
    with without_validation():
        params = density.params(z)
        outputs, pull = vjp(lambda v: _outputs(density, v, x), z)[:2]

        def product(vector: Tensor) -> Tensor:
            moved = jvp(lambda v: _outputs(density, v, x), (z,), (vector,))[1]
            return pull(output_curvature_product(model.likelihood, outputs, y, params, moved))[0]

        return torch.stack([product(vector) for vector in vectors]).detach() / density.temperature


def probe_rows(
    density: UnconstrainedDensity, z: Float[Tensor, "start size"], probes: int, generator: torch.Generator
) -> Iterator[Float[Tensor, "rows size"]]:
    """Random rows r = sum_i J_i^T F_i^(1/2) e_i / sqrt(probes) with standard normal e_i, ``probes`` for each start,
    whose r^T r add up in expectation to the mean of R^T R over the starts. Each costs one gradient.
    """
    model, x, y = network_and_data(density, "the Gauss-Newton matrix")
    scale = (probes * len(z) * density.temperature) ** -0.5
    for start in z:
        with without_validation():
            outputs, pull = vjp(lambda v: _outputs(density, v, x), start)[:2]
            params = density.params(start)
            roots = curvature_roots(model, outputs, y, params)
            size = (probes, *roots.shape[:2], 1)
            noise = torch.randn(size, generator=generator, dtype=roots.dtype, device=roots.device)
            weighted = (roots @ noise).reshape(probes, *outputs.shape)
            for some in weighted.split(_PROBES_AT_ONCE):
                yield vmap(pull)(some)[0].detach() * scale


def potential_at_fixed_outputs(
    density: UnconstrainedDensity, name: str, value: Tensor, z: Float[Tensor, " size"], outputs: Tensor | None
) -> Tensor:
    """U as a function of one parameter, with the network's outputs held fixed: its prior, its Jacobian and, for a
    parameter of the likelihood, the likelihood; for a variance with a hyperprior it is all of U but the likelihood, at
    fixed weights (in the density's coordinates). ``value`` is free, of the parameter's shape.
    """
    model = network_model(density, "the curvature of the prior")
    if name in model.hyperpriors:
        return density.prior_potential(density.pack(density.unpack(z) | {name: value}))
    constrained = (transform := biject_to(model.constraints[name]))(value)
    log_density = density.priors(z)[name].log_prob(constrained).sum()
    if name in model.likelihood.constraints():
        assert outputs is not None
        params = to_constrained(density.unpack(z), model.constraints) | {name: constrained}
        y = network_and_data(density, "the likelihood's curvature")[2]
        log_density = log_density + model.likelihood.log_prob(outputs, y, params).sum()
    return -(log_density / density.temperature + transform.log_abs_det_jacobian(value, constrained).sum())


def hessian_at_fixed_outputs(
    density: UnconstrainedDensity, name: str, z: Float[Tensor, " size"]
) -> Float[Tensor, "coordinate coordinate"]:
    """The block of P that belongs to one parameter."""
    model, outputs = network_model(density, "the curvature of the prior"), None
    if name in model.likelihood.constraints():
        with torch.no_grad():
            outputs = _outputs(density, z, network_and_data(density, "the likelihood's curvature")[1])
    value = density.unpack(z)[name]
    with without_validation():
        slope = grad(lambda flat: potential_at_fixed_outputs(density, name, flat.reshape(value.shape), z, outputs))
        # In reverse: the forward mode of torch gives parameters without dimensions tangents of another type, which some
        # distributions, such as the negative binomial, refuse.
        block: Tensor = jacrev(slope)(value.flatten())
    return block.detach().to(z.dtype)  # a prior of the likelihood may be of another type
