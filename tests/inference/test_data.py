"""What the engines take as data, and what they refuse."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bayes_rpp import MLP, Categorical
from inference import MAP
from inference.data import resolve_data, resolve_device


@pytest.fixture
def model(make_small_model, bodies):
    return make_small_model(bodies)


class Pairs(Dataset):
    """A map-style data set of numpy rows."""

    def __init__(self, x, y):
        self.x, self.y = x.numpy(), y.numpy()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def test_every_accepted_form_gives_the_same_pair(model, bodies):
    x, y = bodies.train
    forms = [
        bodies.train,
        [x, y],
        (x.numpy(), y.numpy()),
        (x.tolist(), y.tolist()),
        (x.double(), y.numpy().astype(np.float64)),
        TensorDataset(x, y),
        Pairs(x, y),
    ]
    for form in forms:
        resolved = resolve_data(model, form)
        assert torch.equal(resolved[0], x)
        assert torch.equal(resolved[1], y)


def test_floating_data_take_the_networks_type(make_small_model, bodies):
    resolved = resolve_data(make_small_model(bodies, dtype=torch.float64), bodies.train)
    assert [part.dtype for part in resolved] == [torch.float64, torch.float64]


def test_integer_inputs_are_numbers_too(model, bodies):
    counts = bodies.train.x.round().long()
    x, _ = resolve_data(model, (counts, bodies.train.y))
    assert x.dtype == torch.float32
    assert torch.isfinite(MAP(epochs=1).fit(model, (counts, bodies.train.y), seed=0).predict(counts).mean).all()


def test_what_is_done_to_the_users_data_afterwards_does_not_matter(model, bodies):
    for x, y in (tuple(part.clone() for part in bodies.train), tuple(part.numpy().copy() for part in bodies.train)):
        posterior = MAP(epochs=1).fit(model, (x, y), seed=0, progress=False)
        before = posterior.log_joint()
        x *= 100
        y[:] = 7
        assert torch.equal(posterior.log_joint(), before)


def test_training_leaves_the_users_data_alone(model, bodies):
    x, y = (part.clone() for part in bodies.train)
    MAP(epochs=2, batch_size=7).fit(model, (x, y), seed=0)
    assert torch.equal(x, bodies.train.x)
    assert torch.equal(y, bodies.train.y)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x, y: (x[:, :19], y), ValueError, r"x has shape \(30, 19\).*size 20.*\(batch, 20\)"),
        (lambda x, y: (x[0], y), ValueError, r"x has"),
        (lambda x, y: (x, y[:, :8]), ValueError, r"y has shape \(30, 8\).*9 outputs.*\(batch, 9\)"),
        (lambda x, y: (x, y[:, 0]), ValueError, r"y has shape \(30,\).*9 outputs"),
        (lambda x, y: (x, y[:, None]), ValueError, r"y has shape \(30, 1, 9\).*\(batch, 9\)"),
        (lambda x, y: (x[:29], y), ValueError, r"x has 29 examples and y has 30"),
        (lambda x, y: (x[:0], y[:0]), ValueError, r"there must be some"),
        (lambda x, y: (x / 0, y), ValueError, r"x holds 600 NaN or infinite number\(s\), the first at index \(0, 0\)"),
        (lambda x, y: (x, y.log()), ValueError, r"y holds \d+ NaN or infinite .* the first at index \(\d+, \d\)"),
        (lambda x, y: (x, y.long()), TypeError, r"floating-point y, got torch.int64"),
        (lambda x, y: x, TypeError, r"pair \(x, y\) or a torch Dataset, got Tensor"),
        (lambda x, y: x.numpy(), TypeError, r"pair \(x, y\) or a torch Dataset, got ndarray"),
        (lambda x, y: (x, y, y), TypeError, r"pair \(x, y\).*got .*3"),
        (lambda x, y: {"x": x, "y": y}, TypeError, r"pair \(x, y\) or a torch Dataset, got dict"),
        (lambda x, y: DataLoader(TensorDataset(x, y)), TypeError, r"torch Dataset, got a DataLoader: .* Give loader"),
        (lambda x, y: TensorDataset(x[:0], y[:0]), ValueError, r"there must be some"),
        (lambda x, y: TensorDataset(x), TypeError, r"pair"),
        (lambda x, y: (1.0, 2.0), (TypeError, ValueError), r"\bx\b"),
        (lambda x, y: None, ValueError, r"needs data"),
    ],
    ids=[
        "narrow x",
        "one row",
        "narrow y",
        "flat y",
        "y with an axis too many",
        "lengths",
        "empty",
        "infinite x",
        "NaN in y",
        "integer y",
        "tensor",
        "array",
        "triple",
        "dict",
        "loader",
        "empty Dataset",
        "Dataset without y",
        "numbers",
        "None",
    ],
)
def test_bad_data_are_refused_by_name(model, bodies, spoil, error, message):
    with pytest.raises(error, match=message):
        MAP(epochs=1).fit(model, spoil(*bodies.train), seed=0)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(30), TypeError, r"integer labels of shape \(batch,\), got \(30,\) torch.float32"),
        (torch.zeros(30, 9, dtype=torch.long), TypeError, r"integer labels.*\(30, 9\)"),
        (torch.arange(30), ValueError, r"labels must lie in 0\.\.8, got 0\.\.29"),
        (torch.arange(30) - 25, ValueError, r"labels must lie in 0\.\.8, got -25\.\.4"),
    ],
)
def test_bad_labels_are_refused(make_small_model, bodies, labels, error, message):
    model = make_small_model(bodies, Categorical(), network=MLP)
    with pytest.raises(error, match=message):
        MAP(epochs=1).fit(model, (bodies.train.x, labels), seed=0)


def test_labels_stay_integers(make_small_model, bodies):
    model = make_small_model(bodies, Categorical(), network=MLP)
    _, labels = resolve_data(model, (bodies.train.x, np.arange(30) % 9))
    assert labels.dtype == torch.int64


def test_auto_is_the_cpu_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cpu") == torch.device("cpu")
