"""The estimators in scikit-learn's own tools, and against the posteriors that they hold."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from analysis import equivariance_error
from bayes_rpp import SO, Scalar, Vector
from inference.scikit_learn import RPPClassifier, RPPRegressor

SMALL = {"channels": 4, "layers": 1, "members": 1, "lr": 0.1, "batch_size": None, "device": "cpu"}
VECTORS = {"group": "SO(3)", "rep_in": "2*Vector", "rep_out": "Vector", "channels": 16, "layers": 1}
SHORT = {"members": 2, "epochs": 20, "random_state": 0, "device": "cpu"}


@parametrize_with_checks([RPPRegressor(**SMALL, epochs=20), RPPClassifier(**SMALL, epochs=20)])
def test_checks_of_scikit_learn_hold_without_exceptions(estimator, check):
    """It skips one of them by itself: that of other arrays than NumPy's, unless SCIPY_ARRAY_API is set."""
    check(estimator)


@pytest.fixture(scope="module")
def vectors():
    """Cross products of pairs of vectors."""
    pairs = np.random.default_rng(0).normal(size=(60, 2, 3))
    return pairs.reshape(60, 6), np.cross(pairs[:, 0], pairs[:, 1])


@pytest.fixture(scope="module")
def regressor(vectors):
    return RPPRegressor(**VECTORS, **SHORT).fit(*vectors)


def test_predictions_are_those_of_the_posterior(regressor, vectors):
    x, y = vectors
    mean, std = regressor.predict(x, return_std=True)
    expected = regressor.posterior_.predict(torch.from_numpy(x))
    assert np.array_equal(mean, expected.mean.numpy())
    assert np.array_equal(std, expected.variance.sqrt().numpy())
    assert mean.shape == std.shape == y.shape
    assert np.array_equal(regressor.predict(x), mean)
    assert equivariance_error(regressor.posterior_, torch.from_numpy(x)).shape == (2, 1)


def test_one_target_is_one_number(vectors):
    x, y = vectors
    invariant = RPPRegressor(group="SO(3)", rep_in="2*Vector", **SMALL, epochs=2).fit(x, y[:, 0])
    mean, std = invariant.predict(x, return_std=True)
    assert mean.shape == std.shape == (60,)
    assert invariant.fit(x, y[:, :1]).predict(x).shape == (60, 1)


@pytest.mark.parametrize("kind", [RPPRegressor, RPPClassifier])
def test_exactly_equivariant_networks_turn_with_their_inputs(kind, vectors):
    x, y = vectors
    settings = {**VECTORS, **SHORT, "network": "emlp"}
    turn = SO(3).sample(1, seed=1)[0].numpy()
    turned = (x.reshape(-1, 2, 3) @ turn.T).reshape(x.shape)
    if kind is RPPRegressor:
        model = kind(**settings).fit(x, y)
        assert model.predict(turned) == pytest.approx(model.predict(x) @ turn.T)
    else:
        model = kind(**{**settings, "rep_out": None}).fit(x, y[:, 0] > 0)
        assert model.predict_proba(turned) == pytest.approx(model.predict_proba(x))


def test_text_and_objects_declare_the_same(regressor, vectors):
    objects = VECTORS | {"group": SO(3), "rep_in": 2 * Vector, "rep_out": Vector}
    again = clone(RPPRegressor(**objects, **SHORT)).fit(*vectors)
    assert np.array_equal(again.predict(vectors[0]), regressor.predict(vectors[0]))


def test_a_clone_and_a_pickle_predict_the_same(regressor, vectors):
    x, _ = vectors
    assert np.array_equal(pickle.loads(pickle.dumps(regressor)).predict(x), regressor.predict(x))
    assert np.array_equal(clone(regressor).fit(*vectors).predict(x), regressor.predict(x))


def test_the_global_random_state_stays(vectors):
    before = torch.get_rng_state()
    RPPRegressor(**SMALL, epochs=1).fit(*vectors)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_search_in_a_pipeline_finds_that_a_symmetry_is_broken():
    """The target is a coordinate of a vector, which no invariant function of it can be."""
    x = np.random.default_rng(0).normal(size=(120, 3))
    settings = {"group": "SO(3)", "channels": 16, "layers": 1, "members": 1, "epochs": 60, "device": "cpu"}
    pipeline = make_pipeline(StandardScaler(), RPPRegressor(**settings, random_state=0))
    search = GridSearchCV(pipeline, {"rppregressor__dense_variance": [1e-8, 1e-1]}, cv=2).fit(x, x[:, 2])
    assert search.best_params_ == {"rppregressor__dense_variance": 1e-1}
    symmetric, broken = search.cv_results_["mean_test_score"]
    assert symmetric < 0.3
    assert broken > 0.8
    assert search.best_estimator_[-1].posterior_.chains == 1


def test_features_and_targets_in_different_units_are_learned_with_their_noise():
    """Without a group each has a scale of its own, and each target its own noise."""
    generator = np.random.default_rng(0)
    z = generator.normal(size=(300, 2))
    y = (z + generator.normal(size=(300, 2)) * [0.1, 0.3]) * [1, 1e3]
    x = z * [1e-4, 1e4] + [0, 1e6]
    settings = {"network": "mlp", "channels": 16, "layers": 1, "members": 2, "epochs": 100, "lr": 0.03}
    model = RPPRegressor(**settings, random_state=0, device="cpu").fit(x, y)
    mean, std = model.predict(x, return_std=True)
    errors = np.sqrt(np.square(mean - y).mean(0))
    assert errors == pytest.approx([0.1, 300], rel=0.3)
    assert std.mean(0) == pytest.approx([0.1, 300], rel=0.3)


def test_labels_may_be_text(vectors):
    x, _ = vectors
    labels = np.where(x[:, 0] > 0.5, "right", np.where(x[:, 0] < -0.5, "left", "middle"))
    model = RPPClassifier(channels=16, layers=1, members=2, epochs=60, random_state=0, device="cpu").fit(x, labels)
    assert model.classes_.tolist() == ["left", "middle", "right"]
    probabilities = model.predict_proba(x)
    assert np.array_equal(probabilities, model.posterior_.predict(torch.from_numpy(x)).mean.numpy())
    assert np.array_equal(model.predict(x), model.classes_[probabilities.argmax(1)])
    assert model.score(x, labels) > 0.8


WRONG = {
    "another size than the features": ({"group": "O(3)", "rep_in": "Vector"}, "rep_in = Vector of O\\(3\\) has size 3"),
    "another size than the targets": ({"rep_out": "T(2)"}, "rep_out = T\\(2\\) of SO\\(3\\) has size 9.* 3 outputs"),
    "no group": ({"group": None}, "rep_in='2\\*Vector' says how numbers transform, but group is None"),
    "a group that is none": ({"group": "O(three)"}, "cannot read this group"),
    "another network": ({"network": "cnn"}, "network must be 'rpp', 'emlp' or 'mlp', got 'cnn'"),
    "no channels": ({"channels": 0}, "channels must be a positive integer, got 0"),
    "layers": ({"layers": -1}, "layers must be 0 or a positive integer, got -1"),
    "members": ({"members": 0}, "members must be an integer of at least 1, got 0"),
    "a variance": ({"dense_variance": 0.0}, "dense_variance must be positive"),
    "a noise": ({"noise_variance": "auto"}, "noise_variance must be .* got 'auto'"),
    "a noise of too few targets": ({"noise_variance": [1.0, 2.0]}, "noise_variance has 2 numbers for 3 outputs"),
}


@pytest.mark.parametrize(("changed", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_refused_by_name(vectors, changed, message):
    with pytest.raises(ValueError, match=message):
        RPPRegressor(**{**VECTORS, **SHORT, **changed}).fit(*vectors)


@pytest.mark.parametrize("changed", [{"group": 3}, {"rep_in": 6}, {"channels": 2.5}])
def test_wrong_types_are_refused_by_name(vectors, changed):
    [name] = changed
    with pytest.raises(TypeError, match=f"^{name} must be"):
        RPPRegressor(**{**VECTORS, **SHORT, **changed}).fit(*vectors)


def test_too_few_examples_or_classes_are_refused(vectors):
    x, y = vectors
    with pytest.raises(ValueError, match="1 sample"):
        RPPRegressor().fit(x[:1], y[:1])
    with pytest.raises(ValueError, match=r"at least two classes, got one class: \['a'\]"):
        RPPClassifier().fit(x, ["a"] * len(x))


def test_targets_of_very_different_sizes_that_share_a_noise_are_warned_of(vectors):
    x, y = vectors
    settings = VECTORS | SHORT | {"rep_out": Vector + Scalar, "epochs": 1}
    with pytest.warns(UserWarning, match="'learned' is one number for all targets"):
        RPPRegressor(**settings).fit(x, np.hstack([y, 1e3 * x[:, :1]]))


def test_only_the_estimators_need_scikit_learn_and_without_it_they_say_what_to_install():
    program = "import sys, inference; print('sklearn' in sys.modules); sys.modules['sklearn'] = None"
    command = [sys.executable, "-c", f"{program}; import inference.scikit_learn"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False"]
    assert 'ImportError: inference.scikit_learn needs scikit-learn: pip install "bayes_rpp[sklearn]"' in done.stderr
