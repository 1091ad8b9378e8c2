"""Pictures of the symmetry that a posterior keeps."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]

from analysis.discovery.kept_algebra import KeptAlgebra
from analysis.plots.style import COLORS, GREY, MARKERS, SMALL, legend_above, new_axes, trim


def plot_kept_symmetry(kept: KeptAlgebra, ax: Axes | None = None) -> Axes:
    """The local equivariance errors along the directions of the Lie algebra, first those that are kept: the median and
    the range of the draws, and above it how many posterior standard deviations the mean Lie derivative is from 0. The
    band is the gap, where the errors of what is kept lie below those of the rest; the dotted line is ``kept.chance``.

    Parameters
    ----------
    kept : of ``kept_symmetry``.
    ax : to draw on; it is returned.

    Examples
    --------
    >>> plot_kept_symmetry(kept_symmetry(post, data.test.x, SO(3)))
    """
    k, r = len(kept.along), kept.dimension
    ax = ax or new_axes(3.6, width=max(0.6 * k + 2.6, 4.8))
    floor = kept.chance * torch.finfo(torch.float32).eps  # zeros have no place on a log axis
    errors = np.maximum(kept.local_errors.values.reshape(-1, k), floor)
    middle = np.median(errors, axis=0)
    series = (0, r, "kept"), (r, k, "broken")
    for (start, stop, label), color, marker in zip(series, COLORS, MARKERS, strict=False):
        if start < stop:
            part = slice(start, stop)
            ranges = np.abs(np.stack([errors.min(0), errors.max(0)]) - middle)[:, part]
            ax.errorbar(
                np.arange(start, stop) + 1, middle[part], ranges,
                fmt=marker, color=color, capsize=3, markersize=5, label=f"{label}: {stop - start} of {k} directions",
            )  # fmt: skip
    if 0 < r < k and errors[:, :r].max() < errors[:, r:].min():
        ax.axhspan(errors[:, :r].max(), errors[:, r:].min(), color=GREY, alpha=0.2, linewidth=0, zorder=0)
    if kept.bases.shape[0] > 1:
        for place, (distance, top) in enumerate(zip(kept.distances_along.values, errors.max(0), strict=True), 1):
            ax.annotate(
                f"{distance:.1f} sd", (place, top), (0, 5), textcoords="offset points",
                ha="center", fontsize=SMALL, color=GREY,
            )  # fmt: skip
    ax.axhline(kept.chance, color="0.6", linewidth=1, linestyle=":", label="chance")
    ax.set_yscale("log")
    ax.set_ylim(errors.min() / 2, 3 * max(kept.chance, float(errors.max())))
    ax.set_xticks(range(1, k + 1))
    ax.set_xlim(0.5, k + 0.5)
    ax.set_xlabel(f"direction of the Lie algebra of {kept.group}")
    ax.set_ylabel("local equivariance error")
    trim(ax)
    legend_above(ax)
    return ax


def plot_kept_axis(kept: KeptAlgebra, ax: Axes3D | None = None) -> Axes3D:
    """The axis of the rotations of space that are kept, on a sphere, with those of the draws. Axes have no sign: each
    is drawn on the side that faces the reader.

    Parameters
    ----------
    kept : of ``kept_symmetry`` among rotations of space, one direction of which is kept.
    ax : to draw on, of three dimensions; it is returned.

    Raises
    ------
    ValueError
        If what is kept has no single axis.

    Examples
    --------
    >>> plot_kept_axis(kept_symmetry(post, data.test.x, SO(3)))
    """
    matrices = torch.einsum("nkr,kij->nrij", kept.bases, kept.subalgebra.directions)
    antisymmetric = torch.cat([kept.along[:1], matrices[:, 0]]) if kept.dimension == 1 else matrices.new_zeros(1, 1, 1)
    words = kept.known.words if kept.known else f"{kept.dimension} directions"
    if antisymmetric.shape[-1] != 3 or (antisymmetric + antisymmetric.mT).abs().max() > 1e-6:
        raise ValueError(f"plot_kept_axis needs one direction that rotates space, and this keeps {words}.")
    if ax is None:
        ax = plt.figure(figsize=(4.2, 4.2), layout="constrained").add_subplot(projection="3d")
    axes = torch.stack([antisymmetric[:, 2, 1], antisymmetric[:, 0, 2], antisymmetric[:, 1, 0]], 1).numpy()
    view = np.array([math.cos(0.35) * math.cos(-0.8), math.cos(0.35) * math.sin(-0.8), math.sin(0.35)])
    axes *= np.where(axes @ view < 0, -1.0, 1.0)[:, None] / np.linalg.norm(axes, axis=1)[:, None]
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, 37), np.linspace(0, np.pi, 19))
    sphere = np.cos(around) * np.sin(up), np.sin(around) * np.sin(up), np.cos(up)
    ax.plot_wireframe(*sphere, color=GREY, alpha=0.25, linewidth=0.4, rcount=10, ccount=13)
    ax.plot(*np.stack([-axes[0], axes[0]], 1) * 1.25, color=COLORS[0], linewidth=1.6, label="the axis that is kept")
    ax.scatter(*axes[1:].T, color=COLORS[1], s=14, depthshade=False, label=f"{len(axes) - 1} draws")
    radius = math.radians(kept.radius())
    if 0 < radius < math.pi / 2:
        across = np.linalg.svd(axes[:1])[2][1:]
        turn = np.linspace(0, 2 * np.pi, 73)[:, None]
        circle = math.cos(radius) * axes[0] + math.sin(radius) * (np.cos(turn) * across[0] + np.sin(turn) * across[1])
        ax.plot(*circle.T, color=COLORS[0], linewidth=1.2, linestyle="--", label="90 % of the posterior")
    ax.view_init(elev=math.degrees(0.35), azim=math.degrees(-0.8))
    ax.set_box_aspect((1, 1, 1), zoom=0.95)  # with room for the label of z
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    ax.set_zlabel("z")
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_ticks([-1, 0, 1])
        axis.set_pane_color((0.5, 0.5, 0.5, 0.05))
    ax.tick_params(labelsize=SMALL)
    legend_above(ax)
    return ax
