"""The conditional marginal likelihood: how well a model predicts some of its data from the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from analysis.evidence.cross_validation import Engine, notes_on, require_draws
from analysis.evidence.protocol import Evidence, EvidenceMethod, timed
from bayes_rpp.seeding import seeded_generator
from inference import Posterior
from inference.data import Data, Model, resolve_data
from inference.posterior.arviz import chain_diagnostics, least_draws
from inference.posterior.draws import uninterrupted
from inference.settings import require_integers

_FEW = 100


@dataclass(frozen=True)
class ConditionalEvidence:
    """log p(D_>m | D_<=m), the evidence of the last N - m examples given the first m of a random ordering.

    The evidence of all data also counts how badly the prior predicts the first few examples, and so can prefer a model
    that generalises worse; the conditional one leaves these out (Lotfi, Izmailov, Benton, Goldblum & Wilson, "Bayesian
    model selection, the marginal likelihood, and generalization", ICML 2022). It is the mean over several random
    orderings of the data.

    A NormalizedNetwork whose standardisers were fitted to all data has seen the later examples: fit them elsewhere.

    Parameters
    ----------
    method : how it is found. An EvidenceMethod, such as ExactEvidence(): log p(D) - log p(D_<=m). An engine, such as
        NUTS(): log mean_s p(D_>m | theta_s) over draws of the posterior of D_<=m, which is only good where few examples
        are held out, see ``held_out_evidence``.
    fraction : of the examples that are conditioned on, m / N, between 0 and 1.
    orderings : how many random orderings, at least 1.

    Examples
    --------
    >>> ConditionalEvidence(ExactEvidence(), fraction=0.8).estimate(model, data.train, seed=0)
    """

    method: EvidenceMethod | Engine
    fraction: float = 0.5
    orderings: int = 5

    def __post_init__(self) -> None:
        able = any(callable(getattr(self.method, name, None)) for name in ("estimate", "fit"))
        if isinstance(self.method, type) or not able:
            raise TypeError(
                f"method must be an evidence method, as ExactEvidence(), or an engine, as NUTS(), got {self.method!r}."
            )
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, got {self.fraction!r}.")
        require_integers(self, orderings=1)

    @timed
    def estimate(
        self, model: Model, data: Data, *, seed: int, device: str | torch.device = "auto", progress: bool = True
    ) -> Evidence:
        """See EvidenceMethod. The seed is of the orderings, too.

        Returns
        -------
        Evidence whose ``standard_error`` is that of the mean over the orderings, as a sample of all orderings, with
        that of log p(D) where there is one; of a single ordering, that of the method. ``details`` has "conditioned_on"
        (m), "held_out" (N - m) and "per_ordering". ValueError if the model is a LogDensity, or the fraction leaves no
        example on one side.
        """
        pair = resolve_data(model, data)
        if pair is None:
            raise ValueError("the conditional evidence needs data that can be divided; a LogDensity holds its own.")
        count, first = len(pair[0]), round(self.fraction * len(pair[0]))
        if not 0 < first < count:
            raise ValueError(f"fraction = {self.fraction} of {count} examples is {first}: some must be on each side.")
        generator = seeded_generator(seed)
        whole_seed, *seeds = torch.randint(2**62, (self.orderings + 1,), generator=generator).tolist()
        orders = [torch.randperm(count, generator=generator).split([first, count - first]) for _ in seeds]
        splits = [[(pair[0][rows], pair[1][rows]) for rows in order] for order in orders]
        whole, parts = None, []
        if hasattr(self.method, "estimate"):
            whole = self.method.estimate(model, pair, seed=whole_seed, device=device, progress=progress)
        for own, (kept, rest) in zip(seeds, splits, strict=True):
            if hasattr(self.method, "estimate"):
                parts.append(self.method.estimate(model, kept, seed=own, device=device, progress=progress))
            else:
                posterior = self.method.fit(model, kept, seed=own, device=device, progress=progress)
                parts.append(held_out_evidence(uninterrupted(posterior), rest))
        return _combined(whole, parts, first, count)


@timed
def held_out_evidence(posterior: Posterior, data: Data) -> Evidence:
    """log p(D' | D) of other data D', all of them together, from draws of p(theta | D): log mean_s p(D' | theta_s).

    The more there are of D', the fewer draws fit them: the mean is then that of the few best, and too small. Its error
    is by the delta method, the Monte Carlo error of the mean over the mean, and itself too small then; below 100
    effective draws, (sum w)^2 / sum w^2 with w_s = p(D' | theta_s), there is a warning.

    Parameters
    ----------
    posterior : of a BayesianModel, with at least 100 draws.
    data : (x, y) as tensors or arrays, or a Dataset of such pairs; none of the examples that the posterior is of.

    Returns
    -------
    Evidence whose ``details`` has "effective_draws".

    Raises
    ------
    ValueError, TypeError
        If the draws are too few, of an ensemble, a tempered posterior or a LogDensity, or the data are refused.

    Examples
    --------
    >>> held_out_evidence(NUTS().fit(model, data.train, seed=0), data.test).standard_error
    """
    require_draws(posterior, "the held-out evidence")
    pair = resolve_data(posterior.bayesian_model, data)
    assert pair is not None
    totals = posterior.log_likelihood(*pair).double().sum(-1).numpy()
    weights = np.exp(totals - totals.max())
    value = float(totals.max() + np.log(weights.mean()))
    enough = posterior.draws >= least_draws(posterior.chains) and np.ptp(weights) > 0
    error = float(chain_diagnostics(weights)["mcse_mean"] / weights.mean()) if enough else None
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    notes = notes_on(posterior)
    if effective < _FEW:
        notes.append(
            f"Of {weights.size} draws, as few as {effective:.3g} make up the predictive density of {len(pair[0])} "
            "held-out examples: value and standard error are too small. Condition on more, take more draws, or use an "
            "evidence method."
        )
    return Evidence(value, "held-out", error, warnings=tuple(notes), details={"effective_draws": effective})


def _combined(whole: Evidence | None, parts: list[Evidence], first: int, count: int) -> Evidence:
    """The mean over the orderings of log p(D) - log p(D_<=m), or, without log p(D), of the parts themselves."""
    values = np.array([part.value for part in parts])
    values = values if whole is None else whole.value - values
    used = parts if whole is None else [whole, *parts]
    if len(parts) > 1:
        shared = 0.0 if whole is None else whole.standard_error or 0.0
        error: float | None = math.hypot(float(values.std(ddof=1)) / math.sqrt(len(parts)), shared)
    else:
        errors = [each.standard_error for each in used if each.standard_error is not None]
        error = math.hypot(*errors) if len(errors) == len(used) else None
    counts = [each.gradients for each in used if each.gradients is not None]
    return Evidence(
        value=float(values.mean()),
        method=f"conditional, {parts[0].method}",
        standard_error=error,
        gradients=sum(counts) if len(counts) == len(used) else None,
        warnings=tuple(dict.fromkeys(note for each in used for note in each.warnings)),
        details={"conditioned_on": first, "held_out": count - first, "per_ordering": values},
    )
