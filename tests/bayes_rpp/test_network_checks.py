"""A network must give each example one output of its own; others are refused before they are fitted."""

import pytest
import torch
from torch import nn

from bayes_rpp import RPPEMLP, SO, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior, Scalar, Vector
from inference import MAP, Posterior


class Forward(nn.Module):
    """A linear layer, and a function of its outputs."""

    def __init__(self, then):
        super().__init__()
        self.linear, self.then, self.calls = nn.Linear(3, 3), then, 0

    def forward(self, x):
        self.calls += 1
        return self.then(self, self.linear(x))


UNREPEATABLE = {
    "functional dropout": lambda _, h: nn.functional.dropout(h),
    "noise": lambda _, h: h + 0.1 * torch.randn_like(h),
    "a counter": lambda network, h: h * network.calls,
}
MIXING = {
    "softmax over the batch": lambda _, h: h.softmax(0),
    "batch means": lambda _, h: h - h.mean(0),
    "batch statistics": lambda _, h: (h - h.mean(0)) / h.std(0, correction=0),
    "attention between rows": lambda _, h: (h @ h.T).softmax(-1) @ h,
    "neighbours": lambda _, h: h + h.roll(1, 0),
    "one output for the batch": lambda _, h: h.mean(0, keepdim=True).expand_as(h),
}


def fit(network, count=20):
    torch.manual_seed(0)
    x = torch.randn(count, 3)
    model = BayesianModel(network, RPPPrior(), Gaussian(0.1), num_outputs=3)
    return MAP(epochs=1).fit(model, (x, x), seed=0, progress=False)


def test_networks_without_one_output_for_each_example_are_refused(subtests):
    words = {"two evaluations of this network": UNREPEATABLE, "depends on the other examples": MIXING}
    for message, kinds in words.items():
        for name, then in kinds.items():
            with subtests.test(name), pytest.raises(ValueError, match=message):
                fit(Forward(then))


def test_outputs_of_another_form_are_refused_as_what_they_are():
    forms = {
        r"a batch of 3 gives outputs of shape \(5, 3\)": lambda _, h: h.new_zeros(5, 3),
        r"a batch of 1 gives outputs of shape \(3,\).*a batch of 3 gives \(3, 3\)": lambda _, h: h.squeeze(0),
    }
    for message, then in forms.items():
        with pytest.raises(ValueError, match=message):
            fit(Forward(then))
    with pytest.raises(TypeError, match=r"must give a tensor, .*gave a tuple"):
        fit(Forward(lambda _, h: (h, h)))


def test_what_is_not_finite_at_the_networks_own_weights_is_no_mixing_network():
    def overflows(network, h):
        return h + (torch.exp(1e3 * network.linear.bias.sum() - 1e3) - torch.exp(1e3 * network.linear.bias.sum() - 1e3))

    network = Forward(overflows)
    torch.nn.init.constant_(network.linear.bias, 5.0)
    model = BayesianModel(network, RPPPrior(), Gaussian(0.1), num_outputs=3)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert not model.output(dict(model.network.named_parameters()), x).isfinite().any()
    model.check_data(x, x)


def test_networks_that_treat_each_example_alone_are_fitted(subtests):
    kinds = {
        "dropout as a module": nn.Sequential(nn.Linear(3, 3), nn.Dropout()),
        "softmax of each": nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)),
        "layer normalisation": nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)),
        "weight normalisation": nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        "wide": RPPEMLP(Vector, Vector, SO(3), channels=512),
    }
    for (name, network), count in zip(kinds.items(), (20, 3, 2, 1, 20), strict=True):
        with subtests.test(name):
            assert isinstance(fit(network, count), Posterior)


def test_large_offsets_are_not_taken_for_a_mixing_network():
    x = 1e9 + torch.randn(50, 3, dtype=torch.float64)
    network = NormalizedNetwork.fit(RPPEMLP(3 * Scalar, 3 * Scalar, SO(3), channels=64), x, x)
    MAP(epochs=1).fit(BayesianModel(network, RPPPrior(), Gaussian(0.1)), (x, x), seed=0, progress=False)


def test_networks_that_cannot_be_copied_are_refused():
    with pytest.raises(ValueError, match="'weight' has no shape yet, as in lazy layers"):
        BayesianModel(nn.LazyLinear(3), RPPPrior(), Gaussian(0.1), num_outputs=3)
    computed = nn.Linear(3, 3)
    computed.scaled = 2 * computed.weight
    with pytest.raises(ValueError, match="cannot be copied"):
        BayesianModel(computed, RPPPrior(), Gaussian(0.1), num_outputs=3)
