"""Where every engine is called: devices that are not there, gradients that are switched off, and Ctrl-C."""

import contextlib

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bayes_rpp import BayesianModel, Gaussian
from inference import Laplace, Posterior
from tests.inference.test_protocol import assert_same_bits, each_engine


@each_engine
def test_devices_that_are_not_there_and_missing_seeds_are_errors(engine, make_small_model, bodies):
    with pytest.raises(TypeError, match="seed"):
        engine.fit(make_small_model(bodies), bodies.train)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for device in ("cudaa", "cuda:99", "nowhere", None, *(name for name, is_there in there.items() if not is_there)):
        with pytest.raises(ValueError, match=f"one that this machine and this torch have, 'cpu'.*, got {device!r}"):
            engine.fit(make_small_model(bodies), bodies.train, seed=0, device=device)
    with pytest.raises(ValueError, match="device='meta' has shapes and no numbers"):
        engine.fit(make_small_model(bodies), bodies.train, seed=0, device="meta")


class Rows(Dataset):
    """Examples as they are."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


@each_engine
def test_gradients_are_the_engines_own(engine, make_linear_problem):
    """Whether a caller has switched gradients off, or his data are part of a graph, makes no difference."""
    model, data = make_linear_problem()
    expected = engine.fit(model, data, seed=0).samples
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert_same_bits(engine.fit(model, data, seed=0).samples, expected)
    x, y = (part.clone().requires_grad_() for part in data)
    streamed = engine.fit(model, Rows(*data), seed=0).samples  # in batches of another order
    for given, same in (((x, y), expected), (TensorDataset(x, y), expected), (Rows(x, y), streamed)):
        posterior = engine.fit(model, given, seed=0)
        assert_same_bits(posterior.samples, same)
        assert not any(part.requires_grad for part in posterior.data)
    for part, before in zip((x, y), data, strict=True):
        assert part.requires_grad
        assert part.grad is None
        assert torch.equal(part, before)


@each_engine
def test_a_run_that_was_cut_short_says_so_through_files(engine, make_linear_problem, tmp_path, monkeypatch):
    """Ctrl-C at several moments: it is raised while nothing is worth keeping; Laplace always raises it."""
    model, data = make_linear_problem(likelihood=Gaussian(noise_variance=0.2, learned=True))
    calls, last, original = [], [0], BayesianModel.output

    def output(self, params, x):
        calls.append(None)
        if len(calls) == last[0]:
            raise KeyboardInterrupt
        return original(self, params, x)

    monkeypatch.setattr(BayesianModel, "output", output)
    assert "interrupted" not in engine.fit(model, data, seed=0).stats
    count, kept = len(calls), 0
    for share in (0.2, 0.5, 0.8, 0.95):
        calls.clear()
        last[0] = int(share * count)
        with contextlib.suppress(KeyboardInterrupt):
            posterior = engine.fit(model, data, seed=0)
            kept += 1
            assert posterior.stats["interrupted"] is True
            assert Posterior.load(posterior.save(tmp_path / f"{share}")).stats["interrupted"] is True
    assert (kept > 0) != isinstance(engine, Laplace)


@each_engine
def test_a_loader_is_refused_for_its_dataset(engine, make_linear_problem):
    model, data = make_linear_problem()
    loader = DataLoader(TensorDataset(*data), batch_size=7)
    with pytest.raises(TypeError, match=r"got a DataLoader: .* Give loader.dataset, and batch_size=7 to the engine"):
        engine.fit(model, loader, seed=0)
    engine.fit(model, loader.dataset, seed=0)
