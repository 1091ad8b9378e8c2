"""From a posterior to numbers and pictures."""

from analysis.comparison.compare import Comparison, compare
from analysis.comparison.prior_sweep import chosen_cell, prior_sweep
from analysis.comparison.symmetry_candidates import symmetry_candidates
from analysis.convergence.convergence import Convergence, convergence
from analysis.convergence.intervals import interval
from analysis.evidence import log_evidence
from analysis.plots.comparison import plot_comparison
from analysis.plots.density_and_predictive import plot_equivariance_density, plot_predictive
from analysis.plots.kernel_density import log_density, log_grid
from analysis.plots.prior_sweep import plot_prior_sweep
from analysis.plots.symmetry_breaking import plot_symmetry_breaking
from analysis.symmetry.equivariance import equivariance_error
from analysis.symmetry.layer_errors import layer_equivariance_error
from analysis.symmetry.local_error import local_equivariance_error
from analysis.symmetry.pathway_shares import pathway_shares
from analysis.verification.verify_symmetry import verify_symmetry

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
