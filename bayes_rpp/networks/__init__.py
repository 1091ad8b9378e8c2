"""Networks whose layers are sums of pathways."""

from bayes_rpp.networks.conv_network import RPPConvNet
from bayes_rpp.networks.emlp import EMLP, MLP, RPPEMLP
from bayes_rpp.networks.hamiltonian import HamiltonianRollout
from bayes_rpp.networks.invariant_lift import InvariantLift, LiftedNetwork
from bayes_rpp.networks.layers.bilinear import EquivariantBilinear
from bayes_rpp.networks.layers.convolution import EquivariantConv2d, RPPConv2d
from bayes_rpp.networks.layers.gated import GatedNonlinearity, gated
from bayes_rpp.networks.layers.linear import EquivariantLinear
from bayes_rpp.networks.layers.low_rank_bilinear import LowRankBilinear
from bayes_rpp.networks.layers.rpp_linear import RPPLinear
from bayes_rpp.networks.residual_sum import ResidualSum
from bayes_rpp.networks.transition import TransitionRollout
from bayes_rpp.networks.uniform_rep import uniform_rep

__all__ = [
    "EMLP",
    "MLP",
    "RPPEMLP",
    "EquivariantBilinear",
    "EquivariantConv2d",
    "EquivariantLinear",
    "GatedNonlinearity",
    "HamiltonianRollout",
    "InvariantLift",
    "LiftedNetwork",
    "LowRankBilinear",
    "RPPConv2d",
    "RPPConvNet",
    "RPPLinear",
    "ResidualSum",
    "TransitionRollout",
    "gated",
    "uniform_rep",
]
