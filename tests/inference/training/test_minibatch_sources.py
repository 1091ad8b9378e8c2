"""Data that are read batch by batch, bytes that become numbers late, images changed at random, and rounded products."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from bayes_rpp import BayesianModel, Categorical, RPPConvNet, RPPPrior
from inference import MAP, DeepEnsemble, FlipsAndCrops
from inference.training import examples
from inference.training.parameter_stack import joint_stack
from tests.error_rate import agrees
from tests.inference.training.test_training_checkpoints import assert_same, interrupt_in_step

ENGINE = DeepEnsemble(members=2, epochs=3, batch_size=10, lr=1e-2)


@pytest.fixture
def model():
    net = RPPConvNet((1, 4, 4), 3, [2, 2])
    return BayesianModel(net, RPPPrior(equivariant_variance=10, mlp_variance=10), Categorical())


@pytest.fixture
def images():
    return torch.randint(256, (32, 1, 4, 4), dtype=torch.uint8), torch.arange(32) % 3


class Images(Dataset):
    """Images, each read on its own; ``change`` does something to them at each reading."""

    def __init__(self, pair, change=lambda x: x):
        self.pair, self.change, self.read = pair, change, []

    def __len__(self):
        return len(self.pair[0])

    def __getitem__(self, index):
        self.read.append(index)
        return self.change(self.pair[0][index]), self.pair[1][index]


def noisy(x):
    return x + torch.randn(x.shape) + float(np.random.rand())  # noqa: NPY002  (as Datasets of others do)


def test_a_dataset_is_read_in_every_epoch_and_trains_as_its_tensors_do(model, images):
    dataset = Images(images)
    streamed = ENGINE.fit(model, dataset, seed=0)
    # once for the checks, with a first example for its size; in each epoch by each member; for a batch's size; for the
    # loss at the end
    assert len(dataset.read) == 32 + 1 + 8 + (3 + 1) * 2 * 32
    assert streamed.data[0].dtype == torch.uint8
    orders = [dataset.read[41 + 64 * epoch : 41 + 64 * (epoch + 1)] for epoch in range(3)]
    assert all(sorted(order) == sorted(2 * list(range(32))) for order in orders)
    first_epoch = dataclasses.replace(ENGINE, epochs=1)
    found, expected = (first_epoch.fit(model, data, seed=0).samples for data in (Images(images), images))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_is_random_in_a_dataset_follows_from_the_seed_and_survives_a_break(model, images, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    whole = ENGINE.fit(model, Images(images, noisy), seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    torch.manual_seed(6)
    for step in (2, 3, 1):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_in_step(patch, step)
            ENGINE.fit(model, Images(images, noisy), seed=0, checkpoint=tmp_path / "run")
    assert_same(ENGINE.fit(model, Images(images, noisy), seed=0, checkpoint=tmp_path / "run"), whole)
    apart = dataclasses.replace(ENGINE, members_at_once=1).fit(model, Images(images, noisy), seed=0)
    for name, value in whole.samples.items():  # each member reads by its own seed, whoever is trained beside it
        torch.testing.assert_close(apart.samples[name], value, rtol=1e-2, atol=1e-4)
    other = ENGINE.fit(model, Images(images, noisy), seed=1)
    assert not torch.equal(other.samples["network.0.dense"], whole.samples["network.0.dense"])


def test_a_dataset_that_does_not_fit_is_not_kept_and_is_checked_as_it_is_read(model, images, monkeypatch):
    monkeypatch.setattr(examples, "free_memory", lambda device: 100)
    posterior = MAP(epochs=1, batch_size=10).fit(model, Images(images), seed=0)
    assert posterior.data is None
    with pytest.raises(ValueError, match="needs the training data"):
        posterior.log_joint()
    for label in (-100, 3):  # torch's cross entropy would leave out the first
        labels = images[1].clone()
        labels[20] = label
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
            MAP(epochs=1, batch_size=10).fit(model, Images((images[0], labels)), seed=0)


def test_augmentations_and_datasets_of_ones_own_are_known_again(model, images, tmp_path):
    """Whatever address an object has, and whatever a Dataset draws from a generator of its own."""

    class Brighter:
        def __call__(self, x, generators):
            return x // 2 + 60

    generator = np.random.default_rng()
    for number, (augment, change) in enumerate(
        [(Brighter, lambda x: x), (lambda: None, lambda x: x + float(generator.random()))]
    ):
        for _ in range(2):
            engine = dataclasses.replace(ENGINE, augment=augment())
            data = images if number == 0 else Images(images, change)
            assert engine.fit(model, data, seed=0, checkpoint=tmp_path / f"run{number}").chains == 2
    with pytest.raises(ValueError, match=r"its augment is '.*Brighter'"):
        ENGINE.fit(model, images, seed=0, checkpoint=tmp_path / "run0")
    with pytest.raises(TypeError, match="augment must be such as FlipsAndCrops"):
        DeepEnsemble(augment="flip")


def test_random_datasets_keep_their_bits_in_threads(model, images):
    index = torch.arange(32)[None]
    source = examples.DatasetExamples(Images(images, noisy), model, torch.device("cpu"))

    def read(seed):
        return source.rows(index, [seed])[0]

    alone = [read(seed) for seed in range(30)]
    with ThreadPoolExecutor(3) as threads:
        assert all(map(torch.equal, threads.map(read, range(30)), alone))


def test_faults_that_show_later_are_refused(model, images):
    x, y = images

    def spoilt(image):
        return image.float().fill_(float("nan")) if (image == x[20]).all() and spoilt.late else image.float()

    spoilt.late = True
    with pytest.raises(ValueError, match="x holds 16 NaN"):
        ENGINE.fit(model, Images(images, spoilt), seed=0)
    ragged = Images(images)
    ragged.change = lambda image: image[:, :3] if (image == x[20]).all() else image
    with pytest.raises(ValueError, match=r"x of several shapes: \(1, 3, 4\), \(1, 4, 4\)"):
        ENGINE.fit(model, ragged, seed=0)
    with pytest.raises(ValueError, match="labels"):
        ENGINE.fit(model, (x, y + 1), seed=0)
    with pytest.raises(TypeError, match=r"must give x as a tensor, an array or a number, got Picture"):
        ENGINE.fit(model, Images(images, lambda image: type("Picture", (), {})()), seed=0)


def test_bytes_are_the_numbers_that_they_stand_for(model, images):
    x, y = images
    as_bytes, as_floats = (MAP(epochs=2, lr=1e-3).fit(model, (form, y), seed=0) for form in (x, x.float()))
    assert torch.equal(as_bytes.predict(x).mean, as_floats.predict(x.float()).mean)


@pytest.mark.statistical
def test_flips_and_crops_are_all_shifts_with_equal_frequencies():
    image = torch.arange(1, 7, dtype=torch.uint8).reshape(1, 2, 3)
    generators = [torch.Generator().manual_seed(int(torch.randint(2**40, ()))) for _ in range(2)]
    changed = FlipsAndCrops(padding=1)(image.expand(2, 3000, 1, 2, 3), generators)
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed[0], changed[1])
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    ways = [padded[:, i : i + 2, j : j + 3] for i in range(3) for j in range(3)]
    ways += [way.flip(-1) for way in ways]
    found = torch.stack([(changed == way).all(dim=(2, 3, 4)) for way in ways]).flatten(1).double()
    assert torch.equal(found.sum(0), torch.ones(6000).double())
    assert agrees(found.mT, torch.full((18,), 1 / 18))
    same = FlipsAndCrops(padding=0, flips=False)(image.expand(2, 5, 1, 2, 3), generators)
    assert torch.equal(same, image.expand(2, 5, 1, 2, 3))
    with pytest.raises(ValueError, match=r"got x of shape \(3, 7\)"):
        FlipsAndCrops()(torch.zeros(2, 3, 7), generators)


def test_changed_images_train_otherwise_and_with_the_same_bits(model, images):
    engine = DeepEnsemble(members=2, epochs=3, batch_size=10, lr=1e-2, augment=FlipsAndCrops(padding=1))
    first, second = (engine.fit(model, images, seed=0) for _ in range(2))
    assert_same(first, second)
    plain = ENGINE.fit(model, images, seed=0)
    assert not torch.equal(plain.samples["network.0.dense"], first.samples["network.0.dense"])


def test_rounding_products_changes_gradients_by_rounding_alone(model, images):
    x, y = images[0][None].float(), images[1][None]
    exact, rounded = (joint_stack(model, [0], 32, bfloat16=setting) for setting in (False, True))
    (loss, gradients), (other, others) = exact.gradients((x, y)), rounded.gradients((x, y))
    assert other.dtype == torch.float32
    assert not torch.equal(loss, other)
    with pytest.raises(ValueError, match="this network is float64"):
        joint_stack(model.to(dtype=torch.float64), [0], 32, bfloat16=True)
    for name, gradient in gradients.items():
        assert others[name].dtype == torch.float32
        assert float((others[name] - gradient).norm() / gradient.norm()) < 0.1
    assert float(abs(loss - other) / loss) < 0.02


def test_training_holds_no_other_copy_of_the_network(model):
    stack = joint_stack(model, [0, 1], 32)
    assert all(parameter.is_meta for parameter in stack.objective.model.network.parameters())
    assert not any(parameter.is_meta for parameter in model.network.parameters())
