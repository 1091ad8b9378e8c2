"""Which group do the data have? Small networks of standardised data, compared by their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from analysis.comparison.compare import Comparison
from analysis.comparison.compare import compare as compare_models
from analysis.comparison.held_out import compare_posteriors
from analysis.comparison.symmetry_candidates import symmetry_candidates
from bayes_rpp import BayesianModel, Categorical, Gaussian, Group, NormalizedNetwork, Rep, Standardizer
from inference import EmpiricalBayes, Posterior
from inference.data import Pair

_NOISE = 0.01  # of the standardised outputs, where the search begins
_WORSE = 2  # standard errors of the difference of held-out scores


class GroupComparison(NamedTuple):
    """The models side by side, and in sentences which group is likeliest and what speaks against relying on that."""

    comparison: Comparison
    verdict: tuple[str, ...]

    @property
    def values(self) -> dict[str, dict[str, float]]:
        """The table by model and column."""
        table = self.comparison.dataset.to_dataframe().T
        return {str(name): own.dropna().to_dict() for name, own in table.items()}


class _UntilInterrupted(EmpiricalBayes):
    """An interrupt ends the comparison, and not one of its fits alone."""

    def fit(self, *arguments: Any, **settings: Any) -> Posterior:
        posterior = super().fit(*arguments, **settings)
        if posterior.interrupted:
            raise KeyboardInterrupt("nothing is compared")
        return posterior


SMALL = EmpiricalBayes(members=2, epochs=400, batch_size=100, lr=1e-2, refinements=20)


def compare_groups(
    rep_in: Rep,
    rep_out: Rep,
    groups: Sequence[Group],
    train: Pair,
    test: Pair,
    *,
    channels: int = 16,
    layers: int = 1,
    engine: EmpiricalBayes = SMALL,
    seed: int = 0,
    device: str = "auto",
) -> GroupComparison:
    """The evidence of ``symmetry_candidates``, of numbers or of labels.

    Outputs are standardised by the first group, which is the largest, so that all models have the same ones; labels are
    integers. The trivial group is named "none". Raises ValueError as ``symmetry_candidates`` and ``compare`` do, and
    KeyboardInterrupt at the first interrupt.
    """
    labels = not train[1].is_floating_point()
    likelihood = Categorical() if labels else Gaussian(_NOISE, learned=True)
    models = symmetry_candidates(rep_in, rep_out, groups, likelihood, channels=channels, layers=layers)
    (x, y), (test_x, test_y) = train, test
    if not labels:
        outputs = Standardizer.fit(y, rep_out, "y")
        y, test_y = outputs(y), outputs(test_y)
    inputs = Standardizer.fit(x, rep_in, "x")
    wrapped = {}
    for name, model in models.items():
        network: Any = model.network
        own = Standardizer(network.rep_in, inputs.mean, inputs.scale)
        plain = Standardizer(network.rep_out, torch.zeros(rep_out.size), torch.ones(rep_out.size))
        label = "none" if name.startswith("Trivial") else name
        wrapped[label] = BayesianModel(NormalizedNetwork(network, own, plain), model.prior, model.likelihood)
    held_out = (test_x, test_y)
    settings: dict[str, Any] = {"group": groups[0], "seed": seed, "device": device}
    found = compare_models(wrapped, (x, y), engine=_UntilInterrupted(**asdict(engine)), test=held_out, **settings)
    return GroupComparison(found, _verdict(found, held_out))


def _verdict(found: Comparison, test: Pair) -> tuple[str, ...]:
    """The likeliest group in words, and what speaks against relying on that."""
    evidence = found.dataset.log_evidence
    best, *others = (str(found.dataset.model.values[k]) for k in evidence.values.argsort()[::-1])
    gaps = (float(evidence.max() - evidence.sel(model=name)) for name in others)
    against = ", ".join(f"to {_in_words(name)} by {_nats(gap)} nats" for name, gap in zip(others, gaps, strict=True))
    words = f"The evidence prefers {_in_words(best)} {against}"
    doubts = (*_contradiction(found, best, test), *found.warnings)
    return (f"{words}, as far as the warnings below allow." if doubts else f"{words}.", *doubts)


def _contradiction(found: Comparison, best: str, test: Pair) -> list[str]:
    """Whether the likeliest model's modes predict new rows worse than another's."""
    scores = compare_posteriors(found.posteriors, test).dataset
    behind, error = (float(scores[name].sel(posterior=best)) for name in ("behind", "behind_error"))
    if not behind > _WORSE * error:
        return []
    ahead = _in_words(str(scores.posterior.values[scores.log_score.values.argmax()]))
    return [
        f"But the modes of {_in_words(best)} predict held-out rows worse than those of {ahead}, by {behind:.2g} +- "
        f"{error:.2g} nats a row: they follow the training data too closely. See whether `bayes-rpp compare` with "
        "other --channels finds the same."
    ]


def _nats(gap: float) -> str:
    return f"{gap:.1f}" if gap < 100 else f"{gap:,.0f}"


def _in_words(name: str) -> str:
    return "no exact symmetry" if name == "none" else name
