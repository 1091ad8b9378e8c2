"""From a posterior to numbers and pictures."""

from analysis.breaking_plot import plot_symmetry_breaking
from analysis.comparison import Comparison, compare
from analysis.comparison_plot import plot_comparison
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
from analysis.symmetry_candidates import symmetry_candidates
from analysis.verification import verify_symmetry

__all__ = [
    "Comparison",
    "Convergence",
    "chosen_cell",
    "compare",
    "convergence",
    "equivariance_error",
    "interval",
    "layer_equivariance_error",
    "local_equivariance_error",
    "log_density",
    "log_evidence",
    "log_grid",
    "pathway_shares",
    "plot_comparison",
    "plot_equivariance_density",
    "plot_predictive",
    "plot_prior_sweep",
    "plot_symmetry_breaking",
    "prior_sweep",
    "symmetry_candidates",
    "verify_symmetry",
]
