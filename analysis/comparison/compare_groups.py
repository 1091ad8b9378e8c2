"""Which group do the data have? Small networks of standardised data, compared by their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from analysis.comparison.aligned import by_name
from analysis.comparison.compare import CLOSE, Comparison
from analysis.comparison.compare import compare as compare_models
from analysis.comparison.held_out import compare_posteriors
from analysis.comparison.symmetry_candidates import symmetry_candidates
from bayes_rpp import BayesianModel, Categorical, Gaussian, Group, NormalizedNetwork, Rep, Standardizer
from inference import EmpiricalBayes, Posterior
from inference.data import Pair

_NOISE = 0.01  # of the standardised outputs, where the search begins
_SCALARS, _COPIES = 8, 2  # in the hidden layers
_MISSED = 0.25  # of the variance
_WORSE = 2  # standard errors of the difference of held-out scores


class GroupComparison(NamedTuple):
    """The models side by side, and in sentences which group is likeliest and what speaks against relying on that."""

    comparison: Comparison
    verdict: tuple[str, ...]

    @property
    def values(self) -> dict[str, dict[str, float]]:
        """The table by model and column."""
        return by_name(self.comparison.dataset)


class _UntilInterrupted(EmpiricalBayes):
    """An interrupt ends the comparison, and not one of its fits alone."""

    def fit(self, *arguments: Any, **settings: Any) -> Posterior:
        posterior = super().fit(*arguments, **settings)
        if posterior.interrupted:
            raise KeyboardInterrupt("nothing of the comparison is kept")
        return posterior


SMALL = EmpiricalBayes(members=2, epochs=400, batch_size=100, lr=1e-2, refinements=20)


def small_channels(rep_in: Rep, rep_out: Rep) -> Rep:
    """8 scalars, and 2 of every other piece of the inputs and outputs: without those of the outputs, an equivariant
    network cannot form them, and spread evenly over ranks few channels are all scalars and vectors.
    """
    pieces = dict.fromkeys(run.piece for rep in (rep_in, rep_out) for run in rep.runs if run.piece)
    return Rep(((_SCALARS, ()), *((_COPIES, piece) for piece in pieces)), rep_in.bound_group)


def compare_groups(
    rep_in: Rep,
    rep_out: Rep,
    groups: Sequence[Group],
    train: Pair,
    test: Pair,
    *,
    channels: int | None = None,
    layers: int = 1,
    engine: EmpiricalBayes = SMALL,
    seed: int = 0,
    device: str = "auto",
) -> GroupComparison:
    """The evidence of ``symmetry_candidates``, of numbers or of labels; see ``small_channels`` for their channels.

    Outputs are standardised by the first group, which is the largest, so that all models have the same ones; labels are
    integers. The trivial group is named "none". Raises ValueError as ``symmetry_candidates`` and ``compare`` do, and
    KeyboardInterrupt at the first interrupt.
    """
    labels = not train[1].is_floating_point()
    likelihood = Categorical() if labels else Gaussian(_NOISE, learned=True)
    hidden = small_channels(rep_in, rep_out) if channels is None else channels
    models = symmetry_candidates(rep_in, rep_out, groups, likelihood, channels=hidden, layers=layers)
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
    dataset = found.dataset
    best, *others = (str(dataset.model.values[k]) for k in dataset.log_evidence.values.argsort()[::-1])
    gaps = {name: float(dataset.log_evidence.max() - dataset.log_evidence.sel(model=name)) for name in others}
    early = dataset.unfinished.fillna(0)
    open_to = [name for name, gap in gaps.items() if gap < max(CLOSE, float(early.sel(model=name)))]
    beaten = [f"to {_in_words(name)} by {_nats(gap)} nats" for name, gap in gaps.items() if name not in open_to]
    doubts = (*_too_small(found), *_contradiction(found, best, test), *found.warnings)
    doubted = "; but see below" if doubts else ""
    sentences = [f"The evidence prefers {_in_words(best)} {', '.join(beaten)}{doubted}."] if beaten else []
    if open_to:
        undecided = " and ".join(map(_in_words, [best, *open_to]))
        why = ": the search for the best variances ended early" if early.sel(model=open_to).max() > CLOSE else ""
        sentences += [f"The evidence does not decide between {undecided}{why}."]
    return (*sentences, *doubts)


def _too_small(found: Comparison) -> list[str]:
    """Whether all models miss so much that their evidences may say more of their size than of the group."""
    missed = float(found.dataset.test_mse.min())
    if not missed > _MISSED:
        return []
    return [
        f"All of these networks miss {missed:.0%} or more of the variance of held-out rows, by noise or because they "
        "are too small: if `bayes-rpp fit` misses less, give `bayes-rpp compare` more --channels or --layers."
    ]


def _contradiction(found: Comparison, best: str, test: Pair) -> list[str]:
    """Whether the likeliest model's modes predict new rows worse than another's."""
    scores = compare_posteriors(found.posteriors, test).dataset
    behind, error = (float(scores[name].sel(posterior=best)) for name in ("behind", "behind_error"))
    if not behind > _WORSE * error:
        return []
    ahead = _in_words(str(scores.posterior.values[scores.log_score.values.argmax()]))
    return [
        f"But the modes of {_in_words(best)} predict held-out rows worse than those of {ahead}, by {behind:.2g} +- "
        f"{error:.2g} nats a row: they may follow the training data too closely. See whether `bayes-rpp compare` with "
        "other --channels finds the same."
    ]


def _nats(gap: float) -> str:
    return f"{gap:.1f}" if gap < 100 else f"{gap:,.0f}"


def _in_words(name: str) -> str:
    return "no exact symmetry" if name == "none" else name
