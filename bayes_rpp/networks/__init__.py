"""Networks whose layers are sums of pathways."""

from bayes_rpp.networks.bilinear import EquivariantBilinear
from bayes_rpp.networks.emlp import EMLP, MLP, RPPEMLP
from bayes_rpp.networks.gated import GatedNonlinearity, gated
from bayes_rpp.networks.linear import EquivariantLinear
from bayes_rpp.networks.residual_sum import ResidualSum
from bayes_rpp.networks.rpp_linear import RPPLinear
from bayes_rpp.networks.uniform_rep import uniform_rep

__all__ = [
    "EMLP",
    "MLP",
    "RPPEMLP",
    "EquivariantBilinear",
    "EquivariantLinear",
    "GatedNonlinearity",
    "RPPLinear",
    "ResidualSum",
    "gated",
    "uniform_rep",
]
