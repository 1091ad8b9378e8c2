"""Layers with several structured pathways as functions of their parameters: derivatives, vmap, copies."""

import copy

import torch
from torch.func import functional_call

from tests.scenarios.layers import LAYERS, randomised
from tests.scenarios.numbers import numbers


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def cubed_output(layer, x):
    """The sum of cubes of the output, as a function of the parameters."""
    return lambda params: functional_call(layer, params, (x,)).pow(3).sum()


def cubed_output_of_dense_twin(layer, x):
    """The same with every pathway as a dense matrix."""
    shape = (layer.rep_out.size, layer.rep_in.size)
    dense = {name: basis.dense() for name, basis in zip(layer.beta_names, layer.bases, strict=True)}

    def energy(params):
        weight = sum((dense[n] @ p).reshape(shape) if n in dense else p for n, p in params.items())
        return (x @ weight.mT).pow(3).sum()

    return energy


def test_gradients_to_second_order_are_the_dense_twins(subtests):
    for name, build in LAYERS.items():
        for parametrization in ["residual", "collapsed"]:
            with subtests.test(msg=f"{name}, {parametrization}"):
                layer = randomised(build(parametrization, bias=False))
                params = {name: p.detach() for name, p in layer.named_parameters()}
                x = numbers(6, layer.rep_in.size)
                loss, twin = cubed_output(layer, x), cubed_output_of_dense_twin(layer, x)
                tangent = {name: numbers(*p.shape, seed=9) for name, p in params.items()}
                first, second = torch.func.jvp(torch.func.grad(loss), (params,), (tangent,))
                expected, expected_second = torch.func.jvp(torch.func.grad(twin), (params,), (tangent,))
                for key in params:
                    close(first[key], expected[key], 1e-8)
                    close(second[key], expected_second[key], 1e-8)


def test_vmap_over_parameters_is_a_loop(subtests):
    for name, build in LAYERS.items():
        for parametrization in ["residual", "collapsed"]:
            with subtests.test(msg=f"{name}, {parametrization}"):
                layer = build(parametrization).double()
                stack = {name: numbers(3, *p.shape, seed=k) for k, (name, p) in enumerate(layer.named_parameters())}
                x = numbers(4, layer.rep_in.size)
                together = torch.func.vmap(lambda p, layer=layer, x=x: functional_call(layer, p, (x,)))(stack)
                for k in range(3):
                    close(together[k], functional_call(layer, {name: value[k] for name, value in stack.items()}, (x,)))


def test_copies_and_saved_states_are_independent_and_equal(subtests):
    for name, build in LAYERS.items():
        for parametrization in ["residual", "collapsed"]:
            with subtests.test(msg=f"{name}, {parametrization}"):
                layer = randomised(build(parametrization))
                copied, loaded = copy.deepcopy(layer), build(parametrization).double()
                loaded.load_state_dict(layer.state_dict())
                x = numbers(4, layer.rep_in.size)
                assert torch.equal(copied(x), layer(x))
                assert torch.equal(loaded(x), layer(x))
                assert all(mine is theirs for mine, theirs in zip(layer.bases, copied.bases, strict=True))
                before = layer(x)
                with torch.no_grad():
                    next(copied.parameters()).add_(1.0)
                assert torch.equal(layer(x), before)
                assert not torch.allclose(copied(x), before)
