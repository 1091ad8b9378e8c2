"""Samplers side by side: HMC's stack of chains against Pyro's NUTS and against training, SGHMC against Adam.

    python tests/benchmarks/samplers.py [threads]

The last ratio is of processor seconds (warm-up included) for each effective draw of the same posterior, with the same
16 chains, starts, metric and numbers of draws, over three seeds; effective draws are those of the function that mixes
worst.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter

import arviz
import torch
from record import keep
from side_by_side import median_seconds, ratio

from analysis import equivariance_error
from bayes_rpp import RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior
from bayes_rpp.datasets import inertia
from inference import HMC, NUTS, SGHMC, DeepEnsemble, Posterior
from inference.density.unconstrained import UnconstrainedDensity
from inference.metrics.preconditioned import PreconditionedDensity
from inference.sampling.random_streams import ChainRandom
from inference.training.parameter_stack import joint_stack

CHAINS, WARMUP, DRAWS, SEEDS = 16, 150, 150, (0, 1, 2)
STEPS, ROUNDS = 20, 15


def problem() -> tuple[BayesianModel, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """One residual layer with a learned noise: a posterior that both samplers reach all of."""
    data = inertia(train=100, test=50, symmetry_breaking=0.3, seed=0)
    net = NormalizedNetwork.fit(RPPEMLP(data.rep_in, data.rep_out, data.group, layers=0), *data.train).double()
    prior = RPPPrior(equivariant_variance=1.0, dense_variance=0.01)
    model = BayesianModel(net, prior, Gaussian(1.0, learned=True))
    return model, (data.train.x.double(), data.train.y.double()), data.test.x.double()


def effective_draws(posterior: Posterior, x: torch.Tensor) -> dict[str, float]:
    functions = {
        "log joint": posterior.sample_stats["lp"].numpy(),
        "equivariance error": equivariance_error(posterior, x).values,
        "noise variance": posterior.samples["noise_variance"].numpy(),
    }
    return {name: float(arviz.ess(values)) for name, values in functions.items()}


def chains_against_nuts() -> None:
    """Processor seconds for each effective draw, of three runs of each: those of one vary by half between seeds."""
    model, train, x = problem()
    settings = {"chains": CHAINS, "warmup": WARMUP, "draws": DRAWS, "metric": "pathway"}
    engines = HMC(**settings), NUTS(**settings)
    seconds: Counter[str] = Counter()
    draws: dict[str, Counter[str]] = {"HMC": Counter(), "NUTS": Counter()}
    for seed in SEEDS:
        start = DeepEnsemble(members=CHAINS, epochs=300, batch_size=50).fit(model, train, seed=seed)
        for engine in engines:
            name, began = type(engine).__name__, time.process_time()
            posterior = engine.fit(model, train, seed=seed, start=start)
            seconds[name] += time.process_time() - began
            found = effective_draws(posterior, x)
            draws[name].update(found)
            rows = ", ".join(f"{function} {value:.0f}" for function, value in found.items())
            print(f"  {name}, seed {seed}: {time.process_time() - began:.0f} s, effective draws: {rows}", flush=True)
    worst = {name: seconds[name] / min(found.values()) for name, found in draws.items()}
    print(f"HMC is {worst['NUTS'] / worst['HMC']:.1f}x faster for each effective draw of the worst of these")
    keep("samplers", {"NUTS to HMC": worst["NUTS"] / worst["HMC"]})


def gradient_against_training() -> None:
    """HMC's gradient of 16 chains on all data, against the gradient of 16 networks that are trained as one stack."""
    data = inertia(train=500, test=1, seed=0)
    net = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=64, layers=2)
    model = BayesianModel(net, RPPPrior(), Gaussian(0.2))
    stack = joint_stack(model, list(range(CHAINS)), 500)
    batch = tuple(part.expand(CHAINS, *part.shape) for part in data.train)
    density = UnconstrainedDensity(model, data.train)
    z = density.initial(list(range(CHAINS)))
    chains = PreconditionedDensity(density, "identity", z)
    functions = {"HMC": lambda: chains.gradients(z), "networks": lambda: stack.gradients(batch)}  # type: ignore[arg-type]
    found = ratio(median_seconds(functions, 2 * ROUNDS), "HMC", "networks")
    keep("samplers", {"HMC, gradient": found})
    print(
        f"a gradient of HMC for {CHAINS} chains takes {found:.2f} times one of as many networks in a stack", flush=True
    )


def step_against_adam() -> None:
    for chains in (1, 16):
        data = inertia(train=1000, test=1, seed=0)
        net = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=32, layers=1)
        model, batch = BayesianModel(net, RPPPrior(), Gaussian(0.2)), 100
        members = joint_stack(model, list(range(chains)), 1000)
        x, y = (part[:batch].expand(chains, batch, *part.shape[1:]) for part in data.train)
        sampler = SGHMC(1e-4, friction=10.0, batch_size=batch, chains=chains, draws=1, warmup=0)
        density = UnconstrainedDensity(model, data.train)
        z = density.initial(list(range(chains)))
        preconditioned, random = (
            PreconditionedDensity(density, "identity", z),
            ChainRandom(density, list(range(chains)), batch),
        )
        state = [sampler.begin(preconditioned, z, random)]

        def sample(state=state, sampler=sampler, preconditioned=preconditioned, random=random) -> None:  # type: ignore[no-untyped-def]
            with torch.no_grad():
                for _ in range(STEPS):
                    state[0], _ = sampler.advance(preconditioned, state[0], random, 0)

        def train(members=members, x=x, y=y) -> None:  # type: ignore[no-untyped-def]
            for _ in range(STEPS):
                members.step((x, y), 1e-3)

        seconds = median_seconds({"SGHMC": sample, "Adam": train}, ROUNDS)
        found = ratio(seconds, "SGHMC", "Adam")
        keep("samplers", {f"SGHMC, {chains} {'chain' if chains == 1 else 'chains'}": found})
        each = {name: 1e3 * statistics.median(values) / STEPS for name, values in seconds.items()}
        print(
            f"{chains} chain(s): a step of SGHMC takes {found:.2f} times one of Adam "
            f"({each['SGHMC']:.1f} and {each['Adam']:.1f} ms)",
            flush=True,
        )


def main() -> None:
    counts = [int(word) for word in sys.argv[1:] if word.isdigit()]
    torch.set_num_threads(counts[0] if counts else 1)
    gradient_against_training()
    step_against_adam()
    chains_against_nuts()


if __name__ == "__main__":
    main()
