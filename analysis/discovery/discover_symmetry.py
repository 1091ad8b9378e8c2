"""From data to a symmetry that nobody declared: found by one posterior, confirmed or not by the evidence of models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from analysis.comparison.compare import Comparison, compare
from analysis.comparison.symmetry_candidates import symmetry_candidates
from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.discovery.kept_symmetry import kept_symmetry
from analysis.evidence import EvidenceMethod
from analysis.evidence.cross_validation import Engine
from analysis.in_words import InWords
from analysis.symmetry.binding import rebind
from bayes_rpp import MLP, BayesianModel, Gaussian, Group, NormalizedNetwork, Rep, RPPPrior, Trivial
from bayes_rpp.likelihoods import LaplaceNoise, Likelihood, StudentT
from bayes_rpp.networks.emlp import Channels
from bayes_rpp.seeding import seeded_generator
from inference import DeepEnsemble, EmpiricalBayes, Posterior
from inference.data import Data, Pair, resolve_data

_HELD_OUT = 0.2
_STEPS, _BATCH = 3_000, 100  # of the ensemble that searches
_POOR_FIT = 0.5  # of the standard deviation of y, above which nothing is known of the function
_CONFIRMED = 0.95  # probability
_FEWEST, _TINY = 20, 1e-300


@dataclass(frozen=True)
class Confirmation:
    """How models with and without what was found are compared, see ``symmetry_candidates`` and ``compare``.

    Parameters
    ----------
    engine, method : of ``compare``.
    channels, layers : of the candidates' networks.
    """

    engine: Engine = field(default_factory=lambda: EmpiricalBayes(epochs=200, refinements=5))
    method: EvidenceMethod | None = None
    channels: Channels = 16
    layers: int = 1


@dataclass(frozen=True, repr=False)
class Discovery(InWords):
    """What ``discover_symmetry`` found.

    Attributes
    ----------
    kept : the algebra that the ensemble keeps, among all matrices.
    posterior : the ensemble that searched.
    fit_error : the root mean square error of its mean on held-out data, over the standard deviation of each output.
    comparison : of models with the symmetry that was found, with those that were declared, and with none; None if
        nothing was found, or nothing can be told.
    """

    kept: KeptAlgebra
    posterior: Posterior
    fit_error: float
    comparison: Comparison | None

    @property
    def found(self) -> Group | None:
        """The group that was found, if one was."""
        return None if self.comparison is None else self.kept.as_group()

    @property
    def cannot_tell(self) -> bool:
        """Whether the ensemble knows too little of the function to say what it keeps."""
        return not self.fit_error <= _POOR_FIT or self.kept.is_unsure

    @property
    def probability(self) -> float:
        """Of the model with the symmetry that was found, among those compared; nan without a comparison."""
        if self.comparison is None:
            return math.nan
        return float(self.comparison.dataset.probability.isel(model=0))

    def __str__(self) -> str:
        lines = [str(self.kept), f"Error on held-out data: {self.fit_error:.2g} standard deviations of y."]
        if self.cannot_tell:
            lines.append("The fit is too poor or too unsure to tell: a poor fit looks like a broken symmetry.")
        if self.comparison is not None:
            confirmed = "confirmed" if self.probability >= _CONFIRMED else "not confirmed"
            lines += [f"By the evidence it is {confirmed}:", str(self.comparison)]
        return "\n".join(lines)


def discover_symmetry(
    data: Data,
    rep_in: Rep,
    rep_out: Rep,
    candidates: Sequence[Group] = (),
    *,
    network: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    engine: Engine | None = None,
    confirmation: Confirmation | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Which linear symmetry do the data have, and does the evidence agree?

    An ensemble that knows of no symmetry is trained on four fifths of the data; what its draws keep among all matrices
    is found by ``kept_symmetry``, at the inputs of the other fifth. If that is something, and the fit good enough to
    tell, models that are exactly symmetric under it, under each of the candidates, and not exactly symmetric are
    compared by their evidence. The other fifth is their test too, though the group was found with it. The first step
    needs enough data to learn the function without its symmetry.

    Parameters
    ----------
    data : a pair (x, y), see ``DeepEnsemble.fit``.
    rep_in, rep_out : tensors (Scalar, Vector, T(p, q) and sums of them) bound to a group of matrices of the right size,
        as ``(5 * Scalar + 5 * Vector)(Trivial(3))``.
    candidates : groups that were declared.
    network : of the ensemble; by default an MLP with three hidden layers of 256, standardised.
    likelihood : by default Gaussian noise whose variance is learned, from a hundredth of that of y.
    engine : of the search; by default ten members that take 3,000 steps.
    confirmation : how models are compared; by default by EmpiricalBayes, on small networks.
    seed, progress : see ``DeepEnsemble.fit``.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than 20 examples, an output is constant, the likelihood is not one of noise around f, or a
        candidate is no group of matrices of this size; else as ``kept_symmetry`` and ``compare``.

    Examples
    --------
    >>> found = discover_symmetry((x, y), Vector(Trivial(3)), T(2)(Trivial(3)), [SO(3)])
    >>> print(found)
    """
    group = rep_in.bound_group
    _check(group, candidates, likelihood)
    trivial = Trivial(group.d)
    own_in, own_out = rebind(rep_in, trivial), rebind(rep_out, trivial)
    if network is None:
        network = MLP(own_in, own_out, trivial, channels=256, layers=3)
    x, y = resolve_data(BayesianModel(network, RPPPrior(), likelihood or Gaussian(1.0)), data)  # type: ignore[misc]
    if len(x) < _FEWEST or not y.var(0).all():
        raise ValueError(f"discover_symmetry needs {_FEWEST} examples or more, got {len(x)}, and no constant output.")
    likelihood = likelihood or Gaussian(noise_variance=0.01 * float(y.var(0).mean()), learned=True)
    train, held_out = _split((x, y), seed)
    if engine is None:
        engine = DeepEnsemble(members=10, epochs=max(1, _STEPS * _BATCH // len(train[0])), batch_size=_BATCH)
    model = BayesianModel(NormalizedNetwork.fit(network, *train), RPPPrior(mlp_variance=1.0), likelihood)
    posterior = engine.fit(model, train, seed=seed, progress=progress)
    predicted = posterior.predict(held_out[0], keep_samples=False)
    points, y = held_out
    error = float(((predicted.mean - y).square().mean(0) / y.var(0, correction=0).clamp_min(_TINY)).mean().sqrt())
    kept = kept_symmetry(posterior, points, algebra="gl", rep_in=own_in, rep_out=own_out, y=y)
    found = Discovery(kept, posterior, error, None)
    if found.cannot_tell or not kept.dimension or not (kept.known or kept.closed):
        return found
    how = confirmation or Confirmation()
    models = _models(kept.as_group(), candidates, rep_in, rep_out, likelihood, how, train)
    options: dict[str, Any] = {"engine": how.engine, "method": how.method, "test": held_out, "seed": seed}
    return replace(found, comparison=compare(models, train, **options, progress=progress))


def _check(group: Group, candidates: Sequence[Group], likelihood: Likelihood | None) -> None:
    """Raise, before anything is trained, for what would fail later."""
    if not isinstance(candidates, Sequence) or not all(isinstance(each, Group) for each in candidates):
        raise TypeError(f"candidates must be a list of groups, as [SO(3)], got {candidates!r}.")
    if wrong := [each for each in candidates if each.d != group.d or isinstance(each, Trivial)]:
        raise ValueError(
            f"candidates must be groups of {group.d} x {group.d} matrices, and not trivial, got {wrong[0]}."
        )
    if likelihood is not None and not isinstance(likelihood, Gaussian | LaplaceNoise | StudentT):
        name = type(likelihood).__name__
        raise ValueError(f"likelihood must be one of noise around f: Gaussian, LaplaceNoise or StudentT, got {name}.")


def _models(
    found: Group,
    candidates: Sequence[Group],
    rep_in: Rep,
    rep_out: Rep,
    likelihood: Likelihood,
    how: Confirmation,
    train: Pair,
) -> dict[str, BayesianModel]:
    groups = [found, *candidates, Trivial(found.d)]
    bare = symmetry_candidates(rep_in, rep_out, groups, likelihood, channels=how.channels, layers=how.layers)
    return {
        name: BayesianModel(NormalizedNetwork.fit(model.network, *train), model.prior, likelihood)
        for name, model in bare.items()
    }


def _split(pair: Pair, seed: int) -> tuple[Pair, Pair]:
    x, y = pair
    order = torch.randperm(len(x), generator=seeded_generator(seed))
    held_out, train = order.split([round(_HELD_OUT * len(x)), len(x) - round(_HELD_OUT * len(x))])
    return (x[train], y[train]), (x[held_out], y[held_out])
