"""From a posterior to numbers and pictures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison.compare import Comparison as Comparison
    from analysis.comparison.compare import compare as compare
    from analysis.comparison.prior_sweep import chosen_cell as chosen_cell
    from analysis.comparison.prior_sweep import prior_sweep as prior_sweep
    from analysis.comparison.symmetry_candidates import symmetry_candidates as symmetry_candidates
    from analysis.convergence_diagnostics.convergence import Convergence as Convergence
    from analysis.convergence_diagnostics.convergence import convergence as convergence
    from analysis.convergence_diagnostics.intervals import interval as interval
    from analysis.evidence import log_evidence as log_evidence
    from analysis.plots.comparison import plot_comparison as plot_comparison
    from analysis.plots.density_and_predictive import plot_equivariance_density as plot_equivariance_density
    from analysis.plots.density_and_predictive import plot_predictive as plot_predictive
    from analysis.plots.kernel_density import log_density as log_density
    from analysis.plots.kernel_density import log_grid as log_grid
    from analysis.plots.prior_sweep import plot_prior_sweep as plot_prior_sweep
    from analysis.plots.symmetry_breaking import plot_symmetry_breaking as plot_symmetry_breaking
    from analysis.symmetry.equivariance import equivariance_error as equivariance_error
    from analysis.symmetry.layer_errors import layer_equivariance_error as layer_equivariance_error
    from analysis.symmetry.local_error import local_equivariance_error as local_equivariance_error
    from analysis.symmetry.pathway_shares import pathway_shares as pathway_shares
    from analysis.verification.verify_symmetry import verify_symmetry as verify_symmetry

# A name is imported when it is first asked for: pictures need Matplotlib, numbers xarray, and `bayes-rpp --help` none.
_HOMES = {
    "Comparison": "analysis.comparison.compare",
    "Convergence": "analysis.convergence_diagnostics.convergence",
    "chosen_cell": "analysis.comparison.prior_sweep",
    "compare": "analysis.comparison.compare",
    "convergence": "analysis.convergence_diagnostics.convergence",
    "equivariance_error": "analysis.symmetry.equivariance",
    "interval": "analysis.convergence_diagnostics.intervals",
    "layer_equivariance_error": "analysis.symmetry.layer_errors",
    "local_equivariance_error": "analysis.symmetry.local_error",
    "log_density": "analysis.plots.kernel_density",
    "log_evidence": "analysis.evidence",
    "log_grid": "analysis.plots.kernel_density",
    "pathway_shares": "analysis.symmetry.pathway_shares",
    "plot_comparison": "analysis.plots.comparison",
    "plot_equivariance_density": "analysis.plots.density_and_predictive",
    "plot_predictive": "analysis.plots.density_and_predictive",
    "plot_prior_sweep": "analysis.plots.prior_sweep",
    "plot_symmetry_breaking": "analysis.plots.symmetry_breaking",
    "prior_sweep": "analysis.comparison.prior_sweep",
    "symmetry_candidates": "analysis.comparison.symmetry_candidates",
    "verify_symmetry": "analysis.verification.verify_symmetry",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
