"""From a posterior to numbers and pictures."""

from analysis.breaking_plot import plot_symmetry_breaking
from analysis.convergence import Convergence, convergence
from analysis.density import log_density, log_grid
from analysis.equivariance import equivariance_error
from analysis.evidence import log_evidence
from analysis.intervals import interval
from analysis.layer_errors import layer_equivariance_error
from analysis.local_error import local_equivariance_error
from analysis.plots import plot_equivariance_density, plot_predictive
from analysis.shares import pathway_shares
from analysis.sweep import chosen_cell, prior_sweep
from analysis.sweep_plot import plot_prior_sweep
from analysis.verification import verify_symmetry

__all__ = [
    "Convergence",
    "chosen_cell",
    "convergence",
    "equivariance_error",
    "interval",
    "layer_equivariance_error",
    "local_equivariance_error",
    "log_density",
    "log_evidence",
    "log_grid",
    "pathway_shares",
    "plot_equivariance_density",
    "plot_predictive",
    "plot_prior_sweep",
    "plot_symmetry_breaking",
    "prior_sweep",
    "verify_symmetry",
]
