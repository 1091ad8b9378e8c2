"""How a layer's weight is shared among its pathways."""

from __future__ import annotations

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.bases.joint_span import JointSpan, are_orthogonal
from bayes_rpp.networks.layers.pathway_sums import ResidualPathwayLayer, pathway_total
from inference import Posterior
from inference.memory import slices_that_fit

_COPIES = 4  # of a weight in float64: its parts, and their sum


def pathway_shares(posterior: Posterior) -> xr.DataArray:
    """How much of every layer's effective weight lies in each pathway: ||Q_k Q_k^T W||^2 / ||W||^2, and the rest.

    W = A + B is the weight that the layer applies, so that the shares are the same in both parametrizations. They are
    those of every draw; ``interval(pathway_shares(posterior))`` has their medians and posterior intervals.

    Returns
    -------
    DataArray with dims (chain, draw, layer, pathway). Pathways are "equivariant" and "dense"; for a chain of groups
    there is one for each group, by its name, for what it has beyond the groups before. Shares add up to 1, unless
    pathways that a user gave overlap; "dense" is always what lies outside all others. NaN where a layer has no such
    pathway.

    Raises
    ------
    ValueError
        If the network has no residual pathway layer.

    Examples
    --------
    >>> data = inertia(train=50, test=1)
    >>> model = BayesianModel(RPPEMLP(data.rep_in, data.rep_out, data.group, 32), RPPPrior(), Gaussian(0.2))
    >>> shares = pathway_shares(DeepEnsemble(members=10, epochs=2).fit(model, data.train, seed=0))
    >>> shares.pathway.values.tolist()
    ['equivariant', 'dense']
    >>> interval(shares).sel(pathway="dense").dims
    ('layer', 'stat')
    """
    network = posterior.bayesian_model.network
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, ResidualPathwayLayer)}
    if not layers:
        raise ValueError(f"{type(network).__name__} has no residual pathway layer, so no pathways to share.")
    pathways = list(dict.fromkeys(name for layer in layers.values() for name in layer.pathway_names))
    values = []
    for name, layer in layers.items():
        bases = list(layer.sums[0].structured.values())
        span = None if are_orthogonal(bases) else JointSpan(bases)
        pieces = []
        for some in slices_that_fit(slice(0, posterior.chains * posterior.draws), _COPIES * 8 * bases[0].size):
            weight = _effective_weight(posterior, name, layer, some)
            total = weight.square().sum(-1)
            shares = dict.fromkeys(pathways, torch.full_like(total, torch.nan))
            parts = [basis.coordinates(weight).square().sum(-1) for basis in bases]
            shares |= {pathway: part / total for pathway, part in zip(layer.pathway_names, parts, strict=True)}
            inside = torch.stack(parts).sum(0) if span is None else span.coordinates(weight).square().sum(-1)
            pieces.append(torch.stack([*shares.values(), 1 - inside / total], dim=-1))
        values.append(torch.cat(pieces).unflatten(0, (posterior.chains, posterior.draws)))
    return xr.DataArray(
        torch.stack(values, dim=-2).numpy(),
        dims=["chain", "draw", "layer", "pathway"],
        coords={"layer": list(layers), "pathway": [*pathways, "dense"]},
        name="pathway_shares",
    )


def _effective_weight(
    posterior: Posterior, name: str, layer: ResidualPathwayLayer, some: slice
) -> Float[Tensor, "some size"]:
    prefix, parts = f"{name}." if name else "", layer.sums[0]

    def draws(parameter: str) -> Tensor:
        return posterior.values(prefix + parameter).flatten(0, 1)[some].double()

    def rows(parameter: str) -> Tensor:
        return draws(parameter) if parameter in parts.held else draws(parameter).flatten(1)

    return pathway_total(layer, parts, rows)
