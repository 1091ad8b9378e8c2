"""What ``bayes-rpp demo``, ``fit`` and ``report`` do."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch

from analysis.cli.data_files import read_data
from analysis.cli.report_files import PICTURE, REPORT, check_report_replaceable, remove_report
from analysis.cli.run_folder import RunFolder, part_to_report
from analysis.cli.runs import POSTERIOR, Run, write_report
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import EMLP, MLP, RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior, parse_group, parse_rep
from bayes_rpp.datasets import inertia
from bayes_rpp.seeding import seeded_generator
from inference import MAP, DeepEnsemble, Posterior
from inference.atomic_write import check_writable
from inference.checkpoint import digest
from inference.data import Pair
from inference.posterior.files import tensors_file

matplotlib.use("Agg")

_NETWORKS = {"rpp": RPPEMLP, "emlp": EMLP, "mlp": MLP}


def _engine(options: Namespace, kind: str, snapshots: int = 0) -> DeepEnsemble | MAP:
    training = {name: getattr(options, name) for name in ("epochs", "batch_size", "lr")} | {"snapshots": snapshots}
    return MAP(**training) if kind == "map" else DeepEnsemble(members=options.members, **training)


def _train(engine: DeepEnsemble | MAP, model: BayesianModel, data: Pair, seed: int, checkpoint: Path) -> Posterior:
    return engine.fit(model, data, seed=seed, checkpoint=checkpoint)


def _deciding(options: Namespace) -> dict[str, Any]:
    """The options that decide the result, by the names that the user gives them; the data have a digest instead."""
    others = {"command", "data", "out", "force", "resume"}
    return {f"--{name.replace('_', '-')}": value for name, value in vars(options).items() if name not in others}


def _size(model: BayesianModel, engine: DeepEnsemble | MAP) -> int:
    """The bytes of the members and of a checkpoint, which has two moments for every parameter."""
    one = sum(value.numel() * value.element_size() for value in model.initial_params(0).values())
    return getattr(engine, "members", 1) * (4 + 2 * engine.snapshots) * one


def demo(options: Namespace) -> None:
    """Fit ensembles to two kinds of inertia data, symmetric and not, and report on both."""
    engine, runs, reference = _engine(options, "ensemble", snapshots=max(0, min(4, options.epochs - 1))), {}, {}
    cases = {"inertia": 0.0, "modified inertia": 0.3}
    check_writable(options.out)
    check_report_replaceable(options.out)
    rules = {"force": options.force, "resume": None, "reported_in": (options.out,)}
    folders = {
        label: RunFolder(options.out / label.replace(" ", "-"), _deciding(options), 0, **rules) for label in cases
    }
    for label, breaking in cases.items():
        print(f"fitting {options.members} members to {label} ...", file=sys.stderr)
        data = inertia(train=1000, test=1000, symmetry_breaking=breaking, seed=options.seed)
        inner = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=options.channels, layers=options.layers)
        network = NormalizedNetwork.fit(inner, *data.train)
        model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=0.2))
        runs[label] = folders[label].fit(partial(_train, engine, model, data.train, options.seed), data.test)
        if breaking:
            offset = network.outputs.mean  # reports are about it, see Run.report
            function = partial(_about, data.function, offset)
            true = equivariance_error(function, data.test.x, rep_in=data.rep_in, rep_out=data.rep_out)
            reference[label] = float(true)
    _print_report(write_report(runs, options.out, reference), options.out, reference)


def _about(function: Callable[[torch.Tensor], torch.Tensor], offset: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return function(x) - offset.to(x)


def fit(options: Namespace) -> None:
    """Fit a posterior to a user's data, and save it with the held-out part of them."""
    group = parse_group(options.group)
    rep_in, rep_out = parse_rep(options.rep_in)(group), parse_rep(options.rep_out)(group)
    engine = _engine(options, options.engine)
    if not 0 < options.test_fraction < 1:
        raise ValueError(f"--test-fraction must lie between 0 and 1, got {options.test_fraction}.")
    x, y = read_data(options.data, options.x, options.y)
    _check_widths(options, x, y, rep_in.size, rep_out.size)
    test = round(options.test_fraction * len(x))
    if not 0 < test < len(x):
        raise ValueError(
            f"--test-fraction {options.test_fraction} of {len(x)} rows leaves nothing to train or to test on."
        )
    order = torch.randperm(len(x), generator=seeded_generator(options.seed))
    held_out, kept = order[:test], order[test:]
    _check_varies(options, x[kept], y[kept])
    network = _NETWORKS[options.network](rep_in, rep_out, group, channels=options.channels, layers=options.layers)
    variances = {"equivariant_variance": options.equivariant_variance, "dense_variance": options.dense_variance}
    prior = RPPPrior(**{name: value for name, value in variances.items() if value is not None})
    normalized = NormalizedNetwork.fit(network, x[kept], y[kept])
    # One value for each copy of a piece, as the scales are: another would prefer directions.
    default_noise = tuple((0.01 * normalized.outputs.scale.square()).tolist())
    noise = default_noise if options.noise_variance is None else options.noise_variance
    model = BayesianModel(normalized, prior, Gaussian(noise))
    deciding = _deciding(options) | {"DATA": f"of digest {digest(x, y)}"}
    folder = RunFolder(options.out, deciding, _size(model, engine), force=options.force, resume=options.resume)
    folder.fit(partial(_train, engine, model, (x[kept], y[kept]), options.seed), (x[held_out], y[held_out]))
    print(f"the run is in {options.out}; see it with: bayes-rpp report {options.out}")


def _check_widths(options: Namespace, x: torch.Tensor, y: torch.Tensor, size_in: int, size_out: int) -> None:
    for name, side, value, size in (("x", "in", x, size_in), ("y", "out", y, size_out)):
        if value.shape[1] != size:
            rep = getattr(options, f"rep_{side}")
            raise ValueError(
                f"--{name} gives {value.shape[1]} number(s) a row, but --rep-{side} {rep!r} of {options.group} "
                f"has size {size}."
            )
        if not torch.isfinite(value).all():
            row, column = (int(i) for i in (~torch.isfinite(value)).nonzero()[0])
            raise ValueError(
                f"{options.data} holds a NaN or infinite {name}, first in row {row + 1}, number {column + 1} of {name}."
            )


def _check_varies(options: Namespace, x: torch.Tensor, y: torch.Tensor) -> None:
    """Refuse training data in which inputs or outputs are constants, but for rounding."""
    for name, value in (("x", x), ("y", y)):
        rounding = 16 * torch.finfo(value.dtype).eps * value.abs().amax(0)
        if len(value) > 1 and ((value - value.mean(0)).abs() <= rounding).all():
            raise ValueError(
                f"every row of {options.data} to train on has the same {name}: with {name} that does not vary nothing "
                "can be learned of how y depends on x."
            )


def report(options: Namespace) -> None:
    """Report on a saved run."""
    folder = part_to_report(options.folder)
    reported = None
    while reported is None or tensors_file(folder / POSTERIOR) != reported:
        if reported is not None:
            remove_report(folder)  # on a run that a fit has replaced meanwhile
        reported = tensors_file(folder / POSTERIOR)
        run = Run.load(folder)
        check_writable(folder)
        table = write_report({options.folder.resolve().name: run}, folder)
    _print_report(table, folder, {})


def _print_report(table: str, folder: Path, reference: dict[str, float]) -> None:
    print(table)
    for label, value in reference.items():
        print(f"{label}: the equivariance error of the true function is {value:.4f}")
    picture = folder / PICTURE
    print(f"picture: {picture}   numbers: {folder / REPORT}" if picture.exists() else f"numbers: {folder / REPORT}")
