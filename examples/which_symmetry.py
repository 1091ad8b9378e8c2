"""Does ``kept_symmetry`` find the truth? Data whose symmetry is known, and ensembles that are not told it.

Moments of inertia keep all rotations; modified ones (the axis of the modification turned at random) keep those about an
axis, and "generic" ones none. Among all 3 x 3 matrices each keeps one direction more, scalings. The networks prefer
O(3), whatever the data keep. The interval of the axis is checked against its truth, over data sets.

MLPs, which prefer nothing, learn functions that keep the Lorentz group, S(3) x S(2) among S(5), and a reflection among
D(4). For the first the singular values of LieGG (Moskalev et al., NeurIPS 2022) of single networks are taken too: those
of the rows grad f(x) x^T, whose null space is the symmetry; the dimension is read off their largest ratio.

    python examples/which_symmetry.py            # two hours on one core
    python examples/which_symmetry.py --quick --out quick/which_symmetry.json  # seconds
    python examples/which_symmetry.py --report-only
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from recording.result_pages import RESULTS, captioned, page, parser, publish, rows_of, trial_options
from recording.resumed_runs import Results, run_all
from torch import Tensor

from analysis import KeptAlgebra, kept_subgroup, kept_symmetry
from analysis.discovery.subspaces import principal_angles
from bayes_rpp import (
    MLP,
    O13,
    RPPEMLP,
    SO,
    BayesianModel,
    D,
    Gaussian,
    Group,
    NormalizedNetwork,
    Rep,
    RPPPrior,
    S,
    Scalar,
    Trivial,
    Vector,
)
from bayes_rpp.datasets import inertia
from inference import DeepEnsemble, Posterior

RECORD = RESULTS / "which_symmetry.json"
DATA = {"exact": (0.0, "axis"), "axis": (0.3, "axis"), "generic": (0.3, "generic")}
KEPT = {"exact": (3, 4), "axis": (1, 2), "generic": (0, 1)}  # dimensions in so(3) and gl(3)
POINTS = 1000
AXES = {300: 40, 1000: 10}  # examples to train on, and data sets that keep an axis
OTHERS = 5  # data sets of each other kind
SIZES = (500, 5000)  # examples of functions that MLPs learn
NOISE = 0.3  # standard deviation of the noise in some data, relative to that of the targets


class Size(NamedTuple):
    members: int
    channels: int
    layers: int
    steps: int


FULL, QUICK = Size(10, 256, 2, 1500), Size(3, 16, 1, 20)


def run(kind: str, train: str, noise: str, seed: str, *, size: Size) -> dict[str, Any]:
    breaking, form = DATA[kind]
    data = inertia(int(train), POINTS, breaking, int(seed), form)
    turn = SO(3).sample(1, int(seed))[0]
    turned = turned_function(data.function, turn, data.rep_in, data.rep_out)
    generator = torch.Generator().manual_seed(int(seed))
    y = turned(data.train.x)
    y = y + float(noise) * y.std() * torch.randn(y.shape, generator=generator)
    began = time.process_time()
    inner = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=size.channels, layers=size.layers)
    network = NormalizedNetwork.fit(inner, data.train.x, y)
    variance = 0.2 + (float(noise) * float(y.std())) ** 2
    model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=variance))
    epochs = max(1, size.steps * 100 // int(train))
    engine = DeepEnsemble(members=size.members, epochs=epochs, lr=1e-2)
    posterior = engine.fit(model, (data.train.x, y), seed=int(seed), progress=False)
    trained = time.process_time() - began
    mse = float((posterior.predict(data.test.x).mean - turned(data.test.x)).square().mean())
    reps = {"rep_in": data.rep_in, "rep_out": data.rep_out}
    among_rotations = kept_symmetry(posterior, data.test.x, SO(3), **reps)
    among_all = kept_symmetry(posterior, data.test.x, algebra="gl", **reps)
    row: dict[str, Any] = {"mse": mse, "so": summary(among_rotations), "gl": summary(among_all)}
    if among_rotations.dimension == 1:
        row["so"]["angle"] = angle_between(among_rotations, turn[:, 2])
    return row | {"seconds of training": trained, "seconds": time.process_time() - began}


def four_vectors(x: Tensor) -> Tensor:
    """(p, q) + (p, p) / 2 of two four-vectors, with (p, q) = p_0 q_0 - p_1 q_1 - p_2 q_2 - p_3 q_3."""
    signs = torch.tensor([1.0, -1.0, -1.0, -1.0]).to(x)
    p, q = x[:, :4], x[:, 4:]
    return ((p * signs * (q + p / 2)).sum(1, keepdim=True)).to(x)


def exchanges(x: Tensor) -> Tensor:
    return x[:, :3].prod(1, keepdim=True) + x[:, 3:].sum(1, keepdim=True).square() / 2


def mirrored(x: Tensor) -> Tensor:
    """Which (x_0, -x_1) mirrors, and no other element of D(4)."""
    first, second = x[:, :1], x[:, 1:]
    return torch.cat([first + second.square() / 2, second * (1 + first / 3)], dim=1)


class Learned(NamedTuple):
    function: Callable[[Tensor], Tensor]
    rep_in: Rep
    rep_out: Rep
    group: Group
    kept: str


LEARNED = {
    "lorentz": Learned(four_vectors, 2 * Vector, Scalar, O13(), "so(1, 3)"),
    "exchanges": Learned(exchanges, Vector, Scalar, S(5), "S(3) of 0, 1, 2 x S(2) of 3, 4"),
    "mirrored": Learned(mirrored, Vector, Vector, D(4), "generated by reflection of axis 1"),
}


def run_learned(kind: str, train: str, noise: str, seed: str, *, size: Size) -> dict[str, Any]:
    """MLPs that learn a function without its symmetry."""
    function, rep_in, rep_out, group, truth = LEARNED[kind]
    trivial = Trivial(group.d)
    generator = torch.Generator().manual_seed(int(seed))
    x, points = (torch.randn(n, rep_in(group).size, generator=generator) for n in (int(train), POINTS))
    y, began = function(x), time.process_time()
    y = y + float(noise) * y.std() * torch.randn(y.shape, generator=generator)
    inner = MLP(rep_in(trivial), rep_out(trivial), trivial, channels=size.channels // 2, layers=2)
    variance = (1e-2 + float(noise) ** 2) * float(y.var())
    model = BayesianModel(NormalizedNetwork.fit(inner, x, y), RPPPrior(mlp_variance=1.0), Gaussian(variance))
    epochs = max(1, size.steps * 200 // int(train))
    engine = DeepEnsemble(members=size.members, epochs=epochs, batch_size=200, lr=3e-3)
    posterior = engine.fit(model, (x, y), seed=int(seed), progress=False)
    row: dict[str, Any] = {"seconds of training": time.process_time() - began}
    held_out = function(points) + float(noise) * y.std() * torch.randn(len(points), y.shape[1], generator=generator)
    missed = posterior.predict(points).mean - function(points)
    row["error"] = float(missed.norm() / (function(points) - function(points).mean(0)).norm())
    options: dict[str, Any] = {"y": held_out, "noise_variance": float(noise) ** 2 * float(y.var())}
    if kind == "lorentz":
        kept = kept_symmetry(posterior, points, algebra="gl", **options)
        row |= summary(kept) | {"right": kept.known is not None and kept.known.words.startswith(truth)}
        exact = spanned(group.lie_algebra, kept.subalgebra.directions)
        row["angle"] = math.degrees(principal_angles(kept.subalgebra.basis, exact)[0])
        row["singular values"] = [liegg(posterior, points, member) for member in range(size.members)]
    else:
        found = kept_subgroup(posterior, points, group, rep_in=rep_in, rep_out=rep_out, **options)
        row |= {"words": found.words, "right": found.words == truth, "share": found.share}
    return row | {"seconds": time.process_time() - began}


def spanned(matrices: Tensor, directions: Tensor) -> Tensor:
    """An orthonormal basis of their span in the coordinates of the directions."""
    basis: Tensor = torch.linalg.qr(torch.einsum("kij,rij->kr", directions, matrices) / 2).Q
    return basis


def liegg(posterior: Posterior, x: Tensor, member: int) -> list[float]:
    """The singular values of the rows sum_v grad_v f(x) x_v^T of an invariant function of vectors v, the smallest first,
    relative to the largest.
    """
    model, params = posterior.bayesian_model, {name: value[member, 0] for name, value in posterior.samples.items()}
    points = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.output(params, points).sum(), points)
    d = model.network.rep_in.bound_group.d
    vectors, slopes = (part.detach().double().unflatten(1, (-1, d)) for part in (points, gradient))
    values = torch.linalg.svdvals(torch.einsum("bvi,bvj->bij", slopes, vectors).flatten(1))
    return (values / values[0]).flip(0).tolist()


def turned_function(
    function: Callable[[Tensor], Tensor], turn: Tensor, rep_in: Any, rep_out: Any
) -> Callable[[Tensor], Tensor]:
    """g f(g^-1 x), which keeps g s g^-1 where f keeps s."""

    def turned(x: Tensor) -> Tensor:
        g = turn.to(x)
        result: Tensor = rep_out.apply(g, function(rep_in.apply(g.T, x)))
        return result

    return turned


def angle_between(kept: KeptAlgebra, axis: Tensor) -> float:
    """Between the axis of the rotations that are kept and a true one, in degrees."""
    a = kept.along[0]
    found = torch.stack([a[2, 1], a[0, 2], a[1, 0]])
    return math.degrees(math.asin(min(1.0, float(torch.linalg.cross(found / found.norm(), axis).norm()))))


def summary(kept: KeptAlgebra) -> dict[str, Any]:
    return {
        "dimension": kept.dimension,
        "share": kept.share,
        "distances": kept.distances.values.tolist(),
        "radius": kept.radius() if kept.dimension < len(kept.along) else 0.0,
        "unsure": kept.is_unsure,
        "words": kept.known.words if kept.known else "",
    }


def of(results: Results, kind: str, train: int, noise: float) -> list[dict[str, Any]]:
    found: list[Any] = [row for key, row in results.items() if key.split("/")[:3] == [kind, str(train), f"{noise:g}"]]
    return found


def report(results: Results) -> str:
    rows, axes = [], []
    for kind, (rotations, matrices) in KEPT.items():
        for train in AXES:
            for noise in (0.0, NOISE):
                found = of(results, kind, train, noise)
                if not found:
                    continue
                right = [
                    sum(row[name]["dimension"] == truth for row in found)
                    for name, truth in (("so", rotations), ("gl", matrices))
                ]
                size = f"{statistics.median(row['mse'] for row in found):.2g}"
                counts = (f"{k} of {len(found)}" for k in right)
                rows.append(
                    (kind, str(train), f"{noise:g}", size, str(rotations), next(counts), str(matrices), next(counts))
                )
                angles = [(row["so"]["angle"], row["so"]["radius"]) for row in found if "angle" in row["so"]]
                if kind == "axis" and angles:
                    inside = sum(angle < radius for angle, radius in angles) / len(angles)
                    errors = sorted(angle for angle, _ in angles)
                    radii = statistics.median(radius for _, radius in angles)
                    numbers = (f"{number:.2f}" for number in (statistics.median(errors), errors[-1], radii))
                    axes.append((str(train), f"{noise:g}", str(len(angles)), *numbers, f"{100 * inside:.0f} %"))
    seconds: list[Any] = [row["seconds"] - row["seconds of training"] for row in results.values()]
    return page(
        __file__,
        "Which symmetry is it?",
        captioned(
            "How often `kept_symmetry` finds as many dimensions as the data keep, among rotations, so(3), and among "
            "all matrices, gl(3), from ten members trained on N examples. Both searches of a posterior at "
            f"{POINTS} points take {statistics.median(seconds):.0f} seconds together on one core.",
            rows_of(
                ("data", "N", "noise", "test MSE", "so(3): truth", "found", "gl(3): truth", "found"),
                rows,
            ),
        ),
        captioned(
            "The axis of modified inertia, a random direction in each data set: the error of the axis that is found, "
            "in degrees, the radius of its 90 % region, and how often that holds the true axis.",
            rows_of(("N", "noise", "data sets", "median error", "largest", "radius", "covered"), axes),
        ),
        captioned(
            "Functions that MLPs learn without being told of any symmetry. The angle is the largest principal angle "
            "between so(1, 3) and what is found among all 4 x 4 matrices, in degrees; LieGG's dimension is that below "
            "the largest ratio of neighbouring singular values, network by network.",
            learned_table(results),
        ),
    )


def learned_table(results: Results) -> str:
    rows = []
    for kind, (_, _, _, group, truth) in LEARNED.items():
        for train in SIZES:
            found = of(results, kind, train, 0.0)
            if not found:
                continue
            right = f"{sum(row['right'] for row in found)} of {len(found)}"
            angle, baseline = "", ""
            if kind == "lorentz":
                angle = f"{max(row['angle'] for row in found):.2f}"
                members = [values for row in found for values in row["singular values"]]
                dimensions = [largest_ratio(values) for values in members]
                baseline = f"{sum(k == len(group.lie_algebra) for k in dimensions)} of {len(members)}"
            fit = f"{statistics.median(row['error'] for row in found):.2g}"
            rows.append(
                (f"{truth} in {'gl(4)' if kind == 'lorentz' else group}", str(train), fit, right, angle, baseline)
            )
    header = ("symmetry", "N", "relative error", "found", "largest angle", "LieGG, single networks")
    return rows_of(header, rows)


def largest_ratio(values: list[float]) -> int:
    """How many singular values lie below the largest ratio of neighbours."""
    ratios = [later / max(earlier, 1e-12) for earlier, later in itertools.pairwise(values)]
    return 1 + ratios.index(max(ratios))


def cases() -> list[tuple[str, ...]]:
    result: list[tuple[str, ...]] = []
    for seed in range(max(AXES.values())):
        named = [("axis", train, "0") for train, count in AXES.items() if seed < count]
        if seed < OTHERS:
            named += [(kind, train, "0") for kind in ("exact", "generic") for train in AXES]
            named += [("axis", 1000, f"{NOISE:g}")]
            named += [(kind, train, "0") for kind in LEARNED for train in SIZES]
        result += [(kind, str(train), noise, str(seed)) for kind, train, noise in named]
    return result


def run_any(kind: str, *case: str, size: Size) -> dict[str, Any]:
    return (run_learned if kind in LEARNED else run)(kind, *case, size=size)


def main() -> None:
    chosen = trial_options(parser(__doc__, RECORD), 1)
    torch.set_num_threads(1)
    todo = cases()[:1] if chosen.quick else cases()
    size = QUICK if chosen.quick else FULL
    publish(chosen.out, report(run_all(chosen.out, [] if chosen.report_only else todo, partial(run_any, size=size))))


if __name__ == "__main__":
    main()
