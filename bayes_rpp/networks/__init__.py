"""Networks whose layers are sums of pathways."""

from bayes_rpp.networks.bilinear import EquivariantBilinear
from bayes_rpp.networks.emlp import EMLP, MLP, RPPEMLP
from bayes_rpp.networks.gated import GatedNonlinearity, gated
from bayes_rpp.networks.hidden import uniform_rep
from bayes_rpp.networks.linear import EquivariantLinear, RPPLinear

__all__ = [
    "EMLP",
    "MLP",
    "RPPEMLP",
    "EquivariantBilinear",
    "EquivariantLinear",
    "GatedNonlinearity",
    "RPPLinear",
    "gated",
    "uniform_rep",
]
