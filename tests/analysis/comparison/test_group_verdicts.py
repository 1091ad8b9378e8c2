"""What is said of groups by their evidences, and when nothing is."""

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.comparison import compare_groups
from analysis.comparison.compare import Comparison
from analysis.comparison.compare_groups import small_channels
from bayes_rpp import Group, O, parse_rep


class Scores:
    """Of held-out rows, in place of posteriors."""

    def __init__(self, behind):
        best = min(behind, key=behind.get)
        names = list(behind)
        values = [0.0 if name == best else behind[name] for name in names]
        columns = {"behind": values, "behind_error": [1.0] * len(names), "log_score": [-value for value in values]}
        columns["behind"][names.index(best)] = np.nan
        self.dataset = xr.Dataset({k: ("posterior", v) for k, v in columns.items()}, {"posterior": names})


@pytest.fixture
def verdict(monkeypatch):
    def of(evidences, early=(0.0, 0.0), mse=(0.1, 0.1), behind=(0.0, 1.0)):
        names = ["O(3)", "none"]
        columns = {"log_evidence": evidences, "unfinished": early, "test_mse": mse}
        dataset = xr.Dataset({k: ("model", np.array(v, dtype=float)) for k, v in columns.items()}, {"model": names})
        scores = Scores(dict(zip(names, behind, strict=True)))
        monkeypatch.setattr(compare_groups, "compare_posteriors", lambda *_: scores)
        return compare_groups._verdict(Comparison(dataset, {}), (torch.zeros(1), torch.zeros(1)))

    return of


def test_a_lead_is_stated_and_a_draw_is_none(verdict):
    assert verdict((-10.0, -20.04)) == ("The evidence prefers O(3) to no exact symmetry by 10.0 nats.",)
    assert verdict((-10.0, -5000.0)) == ("The evidence prefers O(3) to no exact symmetry by 4,990 nats.",)
    assert verdict((-10.0, -11.0)) == ("The evidence does not decide between O(3) and no exact symmetry.",)


def test_a_search_that_ended_early_decides_nothing_within_what_it_lacks(verdict):
    early = "The evidence does not decide between O(3) and no exact symmetry: the search for the best variances ended"
    assert verdict((-10.0, -110.0), early=(0.0, 400.0))[0].startswith(early)
    assert verdict((-10.0, -110.0), early=(400.0, 20.0))[0].startswith("The evidence prefers O(3)")


def test_what_speaks_against_it_follows(verdict):
    doubted = verdict((-10.0, -50.0), mse=(0.4, 0.5), behind=(5.0, 0.0))
    assert doubted[0] == "The evidence prefers O(3) to no exact symmetry by 40.0 nats; but see below."
    assert doubted[1].startswith("All of these networks miss 40% or more of the variance")
    assert "the modes of O(3) predict held-out rows worse than those of no exact symmetry, by 5 +- 1 nats" in doubted[2]
    assert len(verdict((-10.0, -50.0), behind=(1.9, 0.0))) == 1  # within two standard errors


def test_small_networks_can_form_every_piece_of_the_outputs():
    group = O(3)
    inputs, outputs = (parse_rep(text)(group) for text in ("5*Scalar + 5*Vector + PseudoScalar", "Scalar + 3*T(2)"))
    assert str(small_channels(inputs, outputs)) == "8*Scalar + 2*Vector + 2*PseudoScalar + 2*T(2)"
    turn = Group(generators=torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64), name="quarter turns")
    assert small_channels(parse_rep("Vector")(turn), parse_rep("Scalar")(turn)).size == 8 + 4
