"""Frames, series, lists and arrays of any kind are taken for tensors, by everything that takes data."""

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import equivariance_error
from bayes_rpp import SO, BayesianModel, Gaussian, NormalizedNetwork, RPPLinear, RPPPrior, Scalar, Vector
from bayes_rpp.types import as_tensor
from inference import MAP, EmpiricalBayes, Posterior

REP = (Scalar + Vector)(SO(3))
TABLE = np.random.default_rng(0).normal(size=(20, 5))


def test_arrays_of_any_kind_are_tensors_of_the_same_numbers():
    frozen = TABLE.copy()
    frozen.setflags(write=False)
    for given, expected in (
        (frozen, TABLE),
        (TABLE[::-1, ::-2], TABLE[::-1, ::-2]),
        (TABLE.astype(">f8"), TABLE),
        (pd.DataFrame(TABLE), TABLE),
        (pd.Series(TABLE[:, 0]), TABLE[:, 0]),
        (TABLE.tolist(), TABLE),
        (np.array([True, False]), [1, 0]),
        (np.array([3, -2], dtype=np.int16), [3, -2]),
    ):
        found = as_tensor(given, "x")
        np.testing.assert_array_equal(found.double().numpy(), np.asarray(expected, dtype=float))
        found[0] = found[0]  # writable
    tensor = torch.ones(2, requires_grad=True)
    assert not as_tensor(tensor, "x").requires_grad
    np.testing.assert_array_equal(frozen, TABLE)


def test_what_holds_no_numbers_is_refused_by_name():
    for given, message in (
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), "x must hold numbers, got DataFrame of object. Columns of text"),
        ([[1.0], [1.0, 2.0]], "x must hold numbers in rows of equal length"),
        (["a"], "x must hold numbers, got list"),
    ):
        with pytest.raises(TypeError, match=message):
            as_tensor(given, "x")


def test_a_frame_and_a_series_fit_like_tensors(tmp_path):
    frame = pd.DataFrame(TABLE, columns=list("mxyzt"))
    x, y = frame[list("mxyz")], frame["t"]
    tensors = torch.from_numpy(TABLE[:, :4].copy()), torch.from_numpy(TABLE[:, 4:].copy())
    found = []
    for data in ((x, y), tensors):
        network = NormalizedNetwork.fit(RPPLinear(REP, Scalar(SO(3))), *data)
        model = BayesianModel(network, RPPPrior(), Gaussian(0.1))
        posterior = MAP(epochs=2).fit(model, data, seed=0, progress=False)
        score = posterior.predict(data[0]).log_score(data[1])
        errors = equivariance_error(posterior, data[0])
        found.append((posterior.predict(data[0]).mean, score, torch.as_tensor(errors.values)))
        assert posterior.log_likelihood(*data).shape == (1, 1, 20)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    posterior.save(tmp_path / "run" / "posterior")
    assert torch.equal(Posterior.load(tmp_path / "run", model).predict(x).mean, found[0][0])


def test_predictions_take_the_columns_of_a_frame_by_the_names_that_the_fit_had(tmp_path):
    frame = pd.DataFrame(TABLE, columns=list("mxyzt"))
    x, y = frame[list("mxyz")], frame["t"]
    model = BayesianModel(RPPLinear(REP, Scalar(SO(3))), RPPPrior(), Gaussian(0.1))
    for engine in (MAP(epochs=2), EmpiricalBayes(epochs=2)):
        fitted = engine.fit(model, (x, y), seed=0, progress=False)
        fitted.save(tmp_path / "run")
        for posterior in (fitted, Posterior.load(tmp_path / "run", fitted.model)):
            assert torch.equal(posterior.predict(frame[list("tzyxm")]).mean, posterior.predict(x).mean)
            assert not torch.equal(posterior.predict(x[list("zyxm")].to_numpy()).mean, posterior.predict(x).mean)
            assert next(iter(posterior.predict(x).to_dataframe())) == "t"
            with pytest.raises(ValueError, match="x lacks 'm'; the posterior was fitted to m, x, y, z"):
                posterior.predict(x[list("xyz")])
    nameless = MAP(epochs=2).fit(model, (x.to_numpy(), y), seed=0, progress=False)
    assert torch.equal(nameless.predict(x[list("zyxm")]).mean, nameless.predict(x[list("zyxm")].to_numpy()).mean)
