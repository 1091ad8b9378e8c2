"""The options of the command ``bayes-rpp``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

_EPILOG = """examples:
  bayes-rpp demo
  bayes-rpp fit bodies.csv --group "O(3)" --rep-in "5*Scalar + 5*Vector" --rep-out "T(2)" --out runs/bodies
  bayes-rpp report runs/bodies
  bayes-rpp predict runs/bodies new.csv --out predictions.csv
  bayes-rpp compare bodies.csv --groups "O(3)" O2eR3 none --rep-in "5*Scalar + 5*Vector" --rep-out "T(2)"
  bayes-rpp compare runs/bodies runs/mlp

The exit status is 0; 1 after an interrupt; 2 for options or data that cannot be used. With --json the results are
printed as JSON.

A fit that is interrupted is kept in the folder "unfinished" of --out, and ends with status 1: `report` shows what was
trained, and the same command with --resume goes on. Further interrupts do not stop the writing of what was trained. A
finished run is only replaced with --force.

groups:           O(n) SO(n) S(n) Z(n) D(n) SL(n) Sp(m) SO13p SO13 O13 SO2eR3 O2eR3 DkeR3(k) Cube RubiksCube Trivial(n);
                  direct products such as "SO(3) * S(5)"
representations:  Scalar, PseudoScalar, Vector, T(p), T(p,q), Irrep(k), Regular; with +, 5*..., products and **2;
                  on a direct product each names its factor: "Vector(SO(3)) * Vector(S(5))"
"""


_DATA = "a table whose first line names the columns (.csv .tsv .txt .parquet .xlsx), or arrays (.npz .npy)"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"bayes-rpp {version('bayes_rpp')}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Options are given in full, and what is wrong with them is said in a line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Ends with status 2."""
        self.exit(2, f"bayes-rpp: error: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Of the command and its parts."""
    whole = _Parser(
        prog="bayes-rpp",
        description="Fit networks that prefer a symmetry without being held to it, and see how symmetric the data are.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print the version, and end")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")
    demo = commands.add_parser("demo", help="the main job on data made for it: symmetric, and with the symmetry broken")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder for runs, picture and report (default: demo)"
    )
    demo.set_defaults(engine="ensemble", prior="fixed")
    _add_training_options(demo, epochs=150)
    _add_force(demo)

    fit = commands.add_parser(
        "fit", help="fit a posterior to your data", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_table_options(fit, _DATA)
    fit.add_argument("--out", type=Path, default=Path("run"), help="folder for the run (default: run)")
    _add_engine_options(fit)
    fit.add_argument(
        "--network",
        choices=["rpp", "emlp", "mlp"],
        default="rpp",
        help="approximately equivariant, exactly, or not at all (default: rpp)",
    )
    variances = {"equivariant": "equivariant coordinates", "dense": "dense weights; smaller means more symmetric"}
    for name, of in variances.items():
        fit.add_argument(f"--{name}-variance", type=float, help=f"prior variance of {of} (default: that of RPPPrior)")
    fit.add_argument(
        "--noise-variance",
        type=float,
        help="in squared units of the outputs (default: by the errors of a first ensemble on left-out rows)",
    )
    _add_training_options(fit, epochs=300)
    _add_force(fit)
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted run in --out, to the same result as without a break",
    )

    _add_predict_options(commands.add_parser("predict", help="predictions of new rows, with intervals"))
    _add_verify_options(commands.add_parser("verify", help="whether a group and representations fit a table, or a run"))
    _add_compare_options(
        commands.add_parser("compare", help="which group the evidence of a table supports, or which run predicts best")
    )
    _add_report_options(commands.add_parser("report", help="numbers and a picture from a fitted run"))
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print values for programs, instead of words")
    return whole


def _add_predict_options(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("folder", type=Path, metavar="RUN", help="the folder that `fit --out` wrote")
    predict.add_argument("data", type=Path, metavar="DATA", help=f"{_DATA}, with the input columns of the run")
    predict.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .csv file to write")
    predict.add_argument(
        "--probability", type=float, default=0.9, help="that an interval holds an observation (default: 0.9)"
    )
    _add_drop_incomplete(predict, "leave the predictions of rows with gaps empty")
    predict.add_argument("--force", action="store_true", help="replace the file in --out")


def _add_verify_options(verify: argparse.ArgumentParser) -> None:
    _add_table_options(verify, f"{_DATA}; or the folder of a run")
    verify.add_argument("--seed", type=_seed, default=0, help="random seed (default: 0)")


def _add_report_options(report: argparse.ArgumentParser) -> None:
    report.add_argument("folder", type=Path, metavar="RUN", help="the folder that `fit --out` wrote")
    report.add_argument(
        "--evidence",
        action="store_true",
        help="whether the training data support the group exactly, by the evidence of small networks; takes minutes",
    )


def _add_compare_options(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("paths", nargs="+", type=Path, metavar="DATA|RUN", help=f"{_DATA}; or two runs and more")
    compare.add_argument(
        "--groups", nargs="+", metavar="GROUP", help='to compare, the largest first, such as "O(3)" "O2eR3" none'
    )
    _add_column_options(compare)
    _add_training_options(compare, epochs=400, members=2, channels=None, layers=1, lr=1e-2)


def _add_engine_options(fit: argparse.ArgumentParser) -> None:
    fit.add_argument(
        "--engine",
        choices=["ensemble", "map", "laplace", "hmc", "empirical-bayes"],
        default="ensemble",
        help="many modes; one; a Gaussian over the last layer, about one; chains, one from each of many; or many whose "
        "prior variances the evidence chooses (default: ensemble)",
    )
    fit.add_argument("--draws", type=int, default=200, help="of laplace, and of each chain of hmc (default: 200)")
    fit.add_argument("--warmup", type=int, default=500, help="trajectories of hmc before the first draw (default: 500)")
    fit.add_argument(
        "--prior",
        choices=["fixed", "learned"],
        default="fixed",
        help="learned: prior variances by the evidence of a first ensemble, for every engine (default: fixed)",
    )


def _add_table_options(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help=data)
    parser.add_argument("--group", help='the symmetry group, such as "O(3)" (default: no symmetry)')
    _add_column_options(parser)


def _add_column_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rep-in", help='how the inputs transform, such as "5*Scalar + 5*Vector"')
    parser.add_argument("--rep-out", help='how the outputs transform, such as "T(2)"')
    parser.add_argument(
        "--x", default="x*", help="input columns: names or patterns, comma-separated (default: x*); one array of a .npz"
    )
    parser.add_argument("--y", default="y*", help="output columns likewise (default: y*)")
    parser.add_argument(
        "--likelihood",
        choices=["gaussian", "laplace-noise", "student-t", "poisson", "categorical"],
        help="numbers with Gaussian or heavy-tailed noise, counts, or labels in one column (default: gaussian, but for "
        "what may be labels)",
    )
    _add_drop_incomplete(parser)
    parser.add_argument("--test-fraction", type=float, default=0.2, help="held out for the report (default: 0.2)")
    parser.add_argument("--test", type=Path, metavar="FILE", help="judge by this file, and train on all of DATA")


def _add_drop_incomplete(parser: argparse.ArgumentParser, gaps: str = "leave rows with gaps out") -> None:
    parser.add_argument("--drop-incomplete", action="store_true", help=gaps)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace a finished run in --out when the new one is whole, and drop an unfinished one",
    )


def _add_training_options(
    parser: argparse.ArgumentParser,
    *,
    epochs: int,
    members: int = 10,
    channels: int | None = 256,
    layers: int = 3,
    lr: float = 3e-3,
) -> None:
    width = "8 scalars, and 2 of every other piece" if channels is None else f"{channels}"
    parser.add_argument("--channels", type=int, default=channels, help=f"width of the hidden layers (default: {width})")
    defaults: dict[str, tuple[float, str]] = {
        "members": (members, "size of the ensemble, or the number of chains"),
        "layers": (layers, "number of hidden layers"),
        "epochs": (epochs, "passes through the data"),
        "batch-size": (100, "examples a step"),
        "lr": (lr, "learning rate"),
    }
    for name, (value, words) in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{words} (default: {value:g})")
    parser.add_argument("--device", default="auto", help='where to train, such as "cpu" or "cuda" (default: auto)')
    parser.add_argument("--seed", type=_seed, default=0, help="random seed (default: 0)")


def _seed(text: str) -> int:
    from bayes_rpp.seeding import plain_seed  # as in main

    try:
        return plain_seed(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be an integer from -2**63 to 2**64 - 1, got {text!r}") from error
