"""The picture of predictions beside what was observed."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from analysis.plots.style import COLORS, draws_in_words, legend_above, new_axes, trim
from inference import Posterior


def plot_predictive(
    posterior: Posterior,
    x: Float[Tensor, "batch size_in"],
    y: Float[Tensor, "batch size_out"],
    output: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Predictions of one output against what was observed, in order of the observed value, with bands of two standard
    deviations.

    The inner band is epistemic (the members disagree), the outer one holds the noise too.

    Examples
    --------
    >>> ax = plot_predictive(posterior, data.test.x[:100], data.test.y[:100], output=0)
    """
    y = torch.as_tensor(y)
    if y.ndim != 2 or len(y) != len(x) or not 0 <= output < y.shape[1]:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected ({len(x)}, outputs) with output {output} among them.")
    prediction, observed = posterior.predict(x, keep_samples=False), y[:, output]
    ax = ax or new_axes(3.8)
    order = observed.argsort()
    position, mean = np.arange(len(order)), prediction.mean[order, output].numpy()
    for variance, label, alpha in (
        (prediction.variance, "± 2 sd, with noise", 0.2),
        (prediction.epistemic, "± 2 sd, epistemic", 0.45),
    ):
        width = 2 * variance[order, output].sqrt().numpy()
        ax.fill_between(position, mean - width, mean + width, color=COLORS[0], alpha=alpha, linewidth=0, label=label)
    who = draws_in_words(posterior.chains, posterior.draws)
    ax.plot(position, mean, color=COLORS[0], linewidth=1.2, label=f"predictive mean ({who})")
    ax.plot(position, observed[order].numpy(), ".", color=COLORS[1], markersize=4, label="observed")
    ax.set(xlabel="test example, in order of the observed value", ylabel=f"output {output}")
    trim(ax)
    legend_above(ax)
    return ax
