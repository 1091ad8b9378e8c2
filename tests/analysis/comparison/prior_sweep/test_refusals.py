"""Grids, models and criteria that a sweep refuses."""

import math

import pytest
import torch
from pyro.distributions import HalfCauchy

from analysis import chosen_cell
from analysis.evidence import LaplaceEvidence
from bayes_rpp import SO, BayesianModel, Gaussian, LogDensity, RPPLinear, RPPPrior, Scalar, Vector, equivariant_maps
from inference import MAP, EmpiricalBayes

REP_IN, REP_OUT = (Vector + Scalar)(SO(3)), Vector(SO(3))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "nothing is swept.*equivariant_variance, dense_variance, noise_variance"),
        ({"mlp_variance": [1.0]}, "'mlp_variance' cannot be swept"),
        ({"dense_varance": [1.0]}, "'dense_varance' cannot be swept"),
        ({"dense_variance": []}, r"dense_variance must have values.*got \[\]"),
        ({"dense_variance": [0.0, 1.0]}, "positive and finite"),
        ({"dense_variance": [math.inf]}, "positive and finite"),
        ({"dense_variance": [-1.0]}, "positive and finite"),
        ({"dense_variance": [1.0, 0.1, 1.0]}, "differ"),
    ],
)
def test_grids_that_are_none(grid, message, observations, linear, sweep):
    with pytest.raises(ValueError, match=message):
        sweep(linear(), observations(), **grid)


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (Gaussian(0.2, learned=True), "'noise_variance' cannot be swept"),
        (Gaussian((0.2, 0.3, 0.4)), "'noise_variance' cannot be swept"),
    ],
)
def test_a_noise_that_cannot_be_swept(likelihood, message, observations, linear, sweep):
    with pytest.raises(ValueError, match=message):
        sweep(linear(likelihood=likelihood), observations(), noise_variance=[0.1, 0.2])


def test_models_and_criteria_that_are_refused(observations, linear, sweep):
    grid = {"dense_variance": [0.1]}
    with pytest.raises(ValueError, match="hyperpriors on equivariant_variance"):
        sweep(linear(prior=RPPPrior(equivariant_variance=HalfCauchy(1.0))), observations(), **grid)
    with pytest.raises(TypeError, match="needs a BayesianModel, whose prior"):
        sweep(LogDensity(lambda p: -p["z"].square().sum(), {"z": torch.zeros(2)}), None, **grid)
    with pytest.raises(ValueError, match="one noise variance for all outputs"):
        sweep(linear(likelihood=Gaussian(0.2, learned=True, per_output=True)), observations(), **grid)
    with pytest.raises(ValueError, match="at least one"):
        sweep(linear(), observations(), criteria=[], **grid)
    with pytest.raises(TypeError, match="criteria must be evidence methods"):
        sweep(linear(), observations(), criteria=["evidence"], **grid)
    with pytest.raises(ValueError, match="'fit_error' would be taken for a standard error"):
        sweep(linear(), observations(), criteria={"fit_error": lambda _: 0.0}, **grid)
    with pytest.raises(TypeError, match=r"mode must be MAP\(...\) or DeepEnsemble\(...\), got EmpiricalBayes"):
        sweep(linear(), observations(), mode=EmpiricalBayes(), **grid)
    with pytest.raises(TypeError, match="criteria must be evidence methods"):
        sweep(linear(), observations(), criteria=[LaplaceEvidence], **grid)
    with pytest.raises(ValueError, match="two of the name 'laplace_full'"):
        sweep(linear(), observations(), criteria=[LaplaceEvidence("full")] * 2, **grid)


def test_a_curvature_that_does_not_suit_is_refused_before_the_training(monkeypatch, observations, sweep):
    monkeypatch.setattr("analysis.comparison.prior_sweep.train_cells", lambda *_: pytest.fail("it trained"))
    layer = RPPLinear(REP_OUT, REP_OUT, pathways=[equivariant_maps(REP_OUT, REP_OUT)], bias=False)
    model = BayesianModel(layer, RPPPrior(), Gaussian(0.2))
    with pytest.raises(ValueError, match="curvature='symmetric' needs"):
        sweep(model, (observations()[1], observations()[1]), dense_variance=[0.1])


def test_chosen_cells_that_there_are_none_of(observations, linear, sweep):
    found = sweep(linear(), observations(), mode=MAP(epochs=1), dense_variance=[0.1, 1.0])
    with pytest.raises(ValueError, match="criterion must be one of laplace_symmetric, log_joint"):
        chosen_cell(found, "evidence")
    with pytest.raises(ValueError, match="no finite value"):
        chosen_cell(found.where(False))
