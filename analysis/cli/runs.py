"""A run: a folder that holds a posterior, its held-out data, and the report on both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import one_hot

from analysis.cli.report_files import (
    MARK,
    check_report_replaceable,
    remove_report,
    write_numbers,
    write_picture,
)
from analysis.discovery.kept_symmetry import kept_symmetry
from analysis.plots.density_and_predictive import plot_equivariance_density
from analysis.symmetry.equivariance import equivariance_error, summarize
from analysis.symmetry.pathway_shares import pathway_shares
from bayes_rpp import BayesianModel, Categorical, Group, NormalizedNetwork, Standardizer
from bayes_rpp.networks.layers.pathway_sums import ResidualPathwayLayer
from inference import Posterior
from inference.posterior.files import load_with_held_out, save_posterior
from inference.posterior.prediction import Prediction

POSTERIOR = "posterior"
_TEST_OF_OLDER_RUNS = "test.safetensors"
_POINTS = 500  # at which Lie derivatives are taken


@dataclass
class Run:
    """A posterior and the held-out data to judge it by."""

    posterior: Posterior
    x: Tensor
    y: Tensor

    def save(self, folder: Path) -> None:
        """Write posterior and data into a folder, which is created; both replace older ones in one step."""
        save_posterior(self.posterior, folder / POSTERIOR, (self.x, self.y))

    @staticmethod
    def load(folder: Path) -> Run:
        """Read a saved run; FileNotFoundError or ValueError if it is missing, damaged, or of another version."""
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no run folder {folder}.")
        posterior, held_out = load_with_held_out(folder / POSTERIOR, None, Posterior)
        if held_out is not None:
            return Run(posterior, *held_out)
        try:
            older = load_file(folder / _TEST_OF_OLDER_RUNS)
            return Run(posterior, older["x"], older["y"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ValueError(f"{folder} has no held-out data to judge the posterior by; fit the run again.") from error

    def report(self) -> dict[str, Any]:
        """Test error, equivariance error over the members, and the share of each pathway, as JSON values. All are of
        outputs about the offset that standardising took out: the group leaves it alone, and beside a large one every
        error would be 0.
        """
        centred, offset = _without_offset(self.posterior)
        y = self.y - offset if self.y.is_floating_point() else self.y  # labels have none
        prediction = centred.predict(self.x)
        error = equivariance_error(centred, self.x)
        shares = None
        if any(isinstance(module, ResidualPathwayLayer) for module in self.posterior.bayesian_model.network.modules()):
            found = pathway_shares(self.posterior).median(("chain", "draw")).sel(pathway="equivariant")
            shares = dict(zip(found.layer.values.tolist(), found.values.tolist(), strict=True))
        return {
            "format": MARK,
            "interrupted": self.posterior.interrupted,
            "epochs": self.posterior.stats.get("epochs"),
            "engine": self.posterior.stats.get("engine"),
            "members": self.posterior.chains * self.posterior.draws,
            "diverged": len(self.posterior.stats.get("diverged", {})),
            "test_examples": len(self.x),
            **_test_scores(prediction, y),
            "equivariance_error": {**summarize(error), "members": error.values.reshape(-1).tolist()},
            "group": error.attrs["group"],
            "equivariant_share": shares,
            "kept": _kept_in_words(centred, self.x[:_POINTS], _as_mean(y, prediction)[:_POINTS]),
        }


def write_report(runs: dict[str, Run], folder: Path, reference: dict[str, float] | None = None) -> str:
    """Write ``report.json`` and ``equivariance.png`` for labelled runs, and return the table as text. Raises
    FileExistsError, before anything is computed, if files of these names are there that no report has written.
    """
    check_report_replaceable(folder)
    reports = {label: run.report() for label, run in runs.items()}
    exact = [label for label, report in reports.items() if report["equivariance_error"]["minimum"] <= 1e-7]
    pictured = {label: _without_offset(run.posterior)[0] for label, run in runs.items() if label not in exact}
    remove_report(folder)
    write_numbers(reports, folder)
    if pictured:
        same_width = len({run.x.shape[1] for run in runs.values()}) == 1
        points = torch.cat([run.x for run in runs.values()]) if same_width else None
        axes = plot_equivariance_density(pictured, points, reference)
        figure = axes.get_figure(root=True)
        assert figure is not None
        write_picture(figure, folder)
        plt.close(figure)
    kept = [f"{label}: {report['kept']}" for label, report in reports.items() if report["kept"]]
    return "\n".join([_table(reports), *kept])


def _test_scores(prediction: Prediction, y: Tensor) -> dict[str, Any]:
    """Of numbers, the error of the mean and how many the 90 % intervals hold; of labels, the share that is wrong."""
    score = {"test_log_score": float(prediction.log_score(y).mean())}
    if isinstance(prediction.likelihood, Categorical):
        return score | {"test_error": float((prediction.mean.argmax(1) != y).double().mean())}
    members = torch.stack([(outputs - y).square().mean() for outputs in prediction.samples.flatten(0, 1)])
    lower, upper = prediction.interval(0.9)
    return score | {
        "test_mse_of_mean": float((prediction.mean - y).square().mean()),
        "test_mse_of_members": summarize(members),
        "test_coverage_of_90": float(((lower <= y) & (y <= upper)).double().mean()),
        "output_variance": float(y.var(0, correction=0).mean()),
        "test_mse_over_variance": _relative_error(prediction.mean, y),
    }


def _as_mean(y: Tensor, prediction: Prediction) -> Tensor:
    """Labels as vectors of 0 and 1, of which predictions have the mean."""
    return y if y.is_floating_point() else one_hot(y, prediction.mean.shape[1]).to(prediction.mean)


def _kept_in_words(posterior: Posterior, x: Tensor, y: Tensor) -> str | None:
    """Which directions of the Lie algebra are kept; None where the group has none, or there is a single draw."""
    group = posterior.bayesian_model.network.group
    assert isinstance(group, Group)
    if not len(group.orthonormal_algebra) or posterior.chains * posterior.draws < 2:
        return None
    try:
        return str(kept_symmetry(posterior, x, y=y))
    except ValueError as error:  # as of draws that are all alike
        return f"nothing can be said of the directions that are kept: {error}"


def _without_offset(posterior: Posterior) -> tuple[Posterior, Tensor]:
    """The posterior of outputs without the invariant offset of a normalised network, and that offset."""
    model = posterior.bayesian_model
    network = model.network
    if not isinstance(network, NormalizedNetwork):
        return posterior, torch.zeros(())
    outputs = Standardizer(network.rep_out, torch.zeros_like(network.outputs.mean), network.outputs.scale)
    centred = NormalizedNetwork(network.network, network.inputs, outputs)
    of_centred = BayesianModel(centred, model.prior, model.likelihood, model.num_outputs)
    return replace(posterior, model=of_centred, data=None), network.outputs.mean


def _table(reports: dict[str, dict[str, Any]]) -> str:
    reports = {label + " (interrupted)" * report["interrupted"]: report for label, report in reports.items()}
    width = max(map(len, reports))
    of_labels = any("test_error" in report for report in reports.values())
    first, second = ("error", "log score") if of_labels else ("test MSE", "of var(y)")
    lines = [
        f"{'':{width}}  {first:>9}  {second:>9}  {'equivariance error: min, median, max':38}"
        "dense share of the weights, by layer"
    ]
    for label, report in reports.items():
        error, shares = report["equivariance_error"], report["equivariant_share"]
        share = f"{1 - max(shares.values()):.1e} to {1 - min(shares.values()):.1e}" if shares else "no pathways"
        if of_labels:
            scores = f"{report['test_error']:9.2%}  {report['test_log_score']:9.4g}"
        else:
            relative = report["test_mse_over_variance"]
            of_variance = "-" if relative is None else f"{relative:.2%}"
            scores = f"{report['test_mse_of_mean']:9.4g}  {of_variance:>9}"
        lines.append(
            f"{label:{width}}  {scores}  "
            f"{error['minimum']:10.4f} {error['median']:10.4f} {error['maximum']:10.4f}{'':8}{share}"
        )
    return "\n".join(lines)


def _relative_error(mean: Tensor, y: Tensor) -> float | None:
    """The mean, over the outputs that vary, of the squared error over the variance; units may differ."""
    variance, error = y.var(0, correction=0), (mean - y).square().mean(0)
    varies = variance > 0
    return float((error[varies] / variance[varies]).mean()) if varies.any() else None
