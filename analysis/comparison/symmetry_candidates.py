"""The models that a comparison of symmetries is between."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist

from analysis.symmetry.binding import rebind
from bayes_rpp import EMLP, RPPEMLP, BayesianModel, Group, Rep, RPPPrior, Trivial
from bayes_rpp.likelihoods import Likelihood
from bayes_rpp.networks.emlp import Channels


def symmetry_candidates(
    rep_in: Rep,
    rep_out: Rep,
    groups: Sequence[Group],
    likelihood: Likelihood,
    *,
    channels: Channels = 384,
    layers: int = 3,
    prior: RPPPrior | None = None,
) -> dict[str, BayesianModel]:
    """The models that "Is my data G-symmetric, H-symmetric, or neither?" asks about, for ``compare``.

    Each group is an EMLP, exactly equivariant under it. The trivial group is an RPPEMLP of the first group: the same
    architecture, gates and bilinear layers, with dense pathways that no group restricts. (An MLP lacks the gates and
    products, so that its evidence would say more about these than about the symmetry.) Where one group holds another,
    its network is a special case of the other's.

    Parameters
    ----------
    rep_in, rep_out : representations of inputs and outputs; those of another group are restricted to each of these.
    groups : of matrices of one size, the largest first; at most one Trivial.
    likelihood : of all models; a noise that is learned lets each model fit the data as well as it can.
    channels, layers : of all networks; channels that are a representation are restricted to each group, too.
    prior : of all networks. By default, hyperpriors: LogNormal(0, 2) for the equivariant variance and LogNormal(log
        1e-2, 2) for the dense one. A dense pathway is then a hypothesis about how much of the symmetry is broken, which
        exactly symmetric data contradict.

    Raises
    ------
    ValueError
        If the first group is trivial, two groups have one name, or a representation does not fit.

    Examples
    --------
    >>> groups = [O(3), SO2eR3(), Trivial(3)]
    >>> models = symmetry_candidates(data.rep_in, data.rep_out, groups, Gaussian(0.1, learned=True))
    >>> print(compare(models, data.train, test=data.test))
    """
    names = [str(group) for group in groups]
    if not groups or isinstance(groups[0], Trivial):
        raise ValueError(f"groups must begin with the largest, and not with the trivial one, got {names}.")
    if len(set(names)) < len(names):
        raise ValueError(f"groups must be different ones, got {names}.")
    prior = prior or RPPPrior(dist.LogNormal(0.0, 2.0), dist.LogNormal(math.log(1e-2), 2.0))
    models = {}
    for name, group in zip(names, groups, strict=True):
        of, network = (groups[0], RPPEMLP) if isinstance(group, Trivial) else (group, EMLP)
        hidden = rebind(channels, of) if isinstance(channels, Rep) else channels
        net = network(rebind(rep_in, of), rebind(rep_out, of), of, channels=hidden, layers=layers)
        models[name] = BayesianModel(net, prior, likelihood)
    return models
