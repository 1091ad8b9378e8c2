"""The command ``bayes-rpp``: how symmetric is my data?"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import matplotlib
import torch

from analysis.cli.data_files import read_data
from analysis.cli.runs import PICTURE, POSTERIOR, REPORT, Run, write_report
from analysis.symmetry.equivariance import equivariance_error
from bayes_rpp import EMLP, MLP, RPPEMLP, BayesianModel, Gaussian, NormalizedNetwork, RPPPrior, parse_group, parse_rep
from bayes_rpp.datasets import inertia
from inference import MAP, DeepEnsemble
from inference.posterior.files import check_replaceable, check_writable

NETWORKS = {"rpp": RPPEMLP, "emlp": EMLP, "mlp": MLP}

_EPILOG = """examples:
  bayes-rpp demo
  bayes-rpp fit bodies.csv --group "O(3)" --rep-in "5*Scalar + 5*Vector" --rep-out "T(2)" --out runs/bodies
  bayes-rpp report runs/bodies

groups:           O(n) SO(n) S(n) Z(n) D(n) SL(n) Sp(m) SO13p SO13 O13 SO2eR3 O2eR3 DkeR3(k) Cube RubiksCube Trivial(n);
                  direct products such as "SO(3) * S(5)"
representations:  Scalar, PseudoScalar, Vector, T(p), T(p,q), Irrep(k), Regular; with +, 5*..., products and **2;
                  on a direct product each names its factor: "Vector(SO(3)) * Vector(S(5))"
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 after an interrupt, or 2 for input that cannot be used."""
    matplotlib.use("Agg")
    logging.basicConfig(level=logging.WARNING, format="bayes-rpp: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        print(f"bayes-rpp: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bayes-rpp: interrupted", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bayes-rpp",
        description="Fit networks that prefer a symmetry without being held to it, and see how symmetric the data are.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="the main job on data made for it: symmetric, and with the symmetry broken")
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for runs, picture and report (default: demo)"
    )
    _add_training_options(demo, epochs=150)

    fit = commands.add_parser(
        "fit", help="fit a posterior to your data", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fit.set_defaults(run=_fit)
    fit.add_argument("data", type=Path, metavar="DATA", help="a .csv file with a header line, or a .npz file")
    fit.add_argument("--group", required=True, help='the symmetry group, such as "O(3)"')
    fit.add_argument("--rep-in", required=True, help='how the inputs transform, such as "5*Scalar + 5*Vector"')
    fit.add_argument("--rep-out", required=True, help='how the outputs transform, such as "T(2)"')
    fit.add_argument(
        "--x", default="x*", help="input columns: names or patterns, comma-separated (default: x*); one array of a .npz"
    )
    fit.add_argument("--y", default="y*", help="output columns likewise (default: y*)")
    fit.add_argument("--out", type=Path, default=Path("run"), help="folder for the run (default: run)")
    fit.add_argument(
        "--engine", choices=["ensemble", "map"], default="ensemble", help="many modes or one (default: ensemble)"
    )
    fit.add_argument(
        "--network",
        choices=list(NETWORKS),
        default="rpp",
        help="approximately equivariant, exactly, or not at all (default: rpp)",
    )
    fit.add_argument(
        "--equivariant-variance",
        type=float,
        default=RPPPrior().equivariant_variance,
        help="prior variance of equivariant coordinates (default: %(default)g)",
    )
    fit.add_argument(
        "--dense-variance",
        type=float,
        default=RPPPrior().dense_variance,
        help="prior variance of dense weights; smaller means more symmetric (default: %(default)g)",
    )
    fit.add_argument(
        "--noise-variance",
        type=float,
        default=None,
        help="in squared units of the outputs (default: 1%% of the variance of each)",
    )
    fit.add_argument("--test-fraction", type=float, default=0.2, help="held out for the report (default: 0.2)")
    _add_training_options(fit, epochs=300)

    report = commands.add_parser("report", help="numbers and a picture from a fitted run")
    report.set_defaults(run=_report)
    report.add_argument("folder", type=Path, metavar="RUN", help="the folder that `fit --out` wrote")
    return parser


def _add_training_options(parser: argparse.ArgumentParser, epochs: int) -> None:
    parser.add_argument("--members", type=int, default=10, help="size of the ensemble (default: 10)")
    parser.add_argument("--channels", type=int, default=256, help="width of the hidden layers (default: 256)")
    parser.add_argument("--layers", type=int, default=3, help="number of hidden layers (default: 3)")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"passes through the data (default: {epochs})")
    parser.add_argument("--batch-size", type=int, default=100, help="examples a step (default: 100)")
    parser.add_argument("--lr", type=float, default=3e-3, help="learning rate (default: 0.003)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def _engine(options: argparse.Namespace, kind: str, snapshots: int = 0) -> DeepEnsemble | MAP:
    if kind == "map":
        return MAP(epochs=options.epochs, batch_size=options.batch_size, lr=options.lr, snapshots=snapshots)
    return DeepEnsemble(
        members=options.members,
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        snapshots=snapshots,
    )


def _demo(options: argparse.Namespace) -> None:
    engine, runs, reference = _engine(options, "ensemble", snapshots=max(0, min(4, options.epochs - 1))), {}, {}
    cases = {"inertia": 0.0, "modified inertia": 0.3}
    folders = {label: options.out / label.replace(" ", "-") for label in cases}
    for folder in (options.out, *folders.values()):
        check_writable(folder)
        check_replaceable(folder / POSTERIOR)
    for label, breaking in cases.items():
        print(f"fitting {options.members} members to {label} ...", file=sys.stderr)
        data = inertia(train=1000, test=1000, symmetry_breaking=breaking, seed=options.seed)
        network = RPPEMLP(data.rep_in, data.rep_out, data.group, channels=options.channels, layers=options.layers)
        model = BayesianModel(network, RPPPrior(), Gaussian(noise_variance=0.2))
        runs[label] = Run(engine.fit(model, data.train, seed=options.seed), *data.test)
        runs[label].save(folders[label])
        if breaking:
            true = equivariance_error(data.function, data.test.x, rep_in=data.rep_in, rep_out=data.rep_out)
            reference[label] = float(true)
    _print_report(runs, options.out, reference)


def _fit(options: argparse.Namespace) -> None:
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
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(options.seed))
    held_out, kept = order[:test], order[test:]
    network = NETWORKS[options.network](rep_in, rep_out, group, channels=options.channels, layers=options.layers)
    prior = RPPPrior(options.equivariant_variance, options.dense_variance)
    normalized = NormalizedNetwork.fit(network, x[kept], y[kept])
    # One value for each copy of a piece, as the scales are: another would prefer directions.
    default_noise = tuple((0.01 * normalized.outputs.scale.square()).tolist())
    noise = default_noise if options.noise_variance is None else options.noise_variance
    model = BayesianModel(normalized, prior, Gaussian(noise))
    check_writable(options.out)
    check_replaceable(options.out / POSTERIOR)
    run = Run(engine.fit(model, (x[kept], y[kept]), seed=options.seed), x[held_out], y[held_out])
    run.save(options.out)
    print(f"the run is in {options.out}; see it with: bayes-rpp report {options.out}")


def _check_widths(options: argparse.Namespace, x: torch.Tensor, y: torch.Tensor, size_in: int, size_out: int) -> None:
    for name, value, rep, size in (("x", x, options.rep_in, size_in), ("y", y, options.rep_out, size_out)):
        if value.shape[1] != size:
            side = "in" if name == "x" else "out"
            raise ValueError(
                f"--{name} gives {value.shape[1]} number(s) a row, but --rep-{side} {rep!r} of {options.group} "
                f"has size {size}."
            )
        if not torch.isfinite(value).all():
            row, column = (int(i) for i in (~torch.isfinite(value)).nonzero()[0])
            raise ValueError(
                f"{options.data} holds a NaN or infinite {name}, first in row {row + 1}, number {column + 1} of {name}."
            )


def _report(options: argparse.Namespace) -> None:
    run = Run.load(options.folder)
    check_writable(options.folder)
    _print_report({options.folder.resolve().name: run}, options.folder, None)


def _print_report(runs: dict[str, Run], folder: Path, reference: dict[str, float] | None) -> None:
    print(write_report(runs, folder, reference))
    for label, value in (reference or {}).items():
        print(f"{label}: the equivariance error of the true function is {value:.4f}")
    picture = folder / PICTURE
    print(f"picture: {picture}   numbers: {folder / REPORT}" if picture.exists() else f"numbers: {folder / REPORT}")


if __name__ == "__main__":
    sys.exit(main())
