"""Linear layers that prefer the means of images over their positions."""

from __future__ import annotations

import math
from math import prod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.convolutions.composed import ContrastBasis
from bayes_rpp.bases.dense import DenseBasis, KroneckerBasis
from bayes_rpp.bases.orbit import OrbitBasis
from bayes_rpp.networks.layers.image_map import mean_square
from bayes_rpp.networks.layers.linear import apply_linear
from bayes_rpp.networks.layers.pathway_layer import ResidualPathways
from bayes_rpp.networks.layers.pathway_sums import LinearMap, Parametrization
from bayes_rpp.networks.layers.roles import StructuredPathway


class ImageMean(nn.Module):
    """The mean of flattened images over positions, and over so many orientations: channels that follow each other."""

    def __init__(self, image: tuple[int, int, int], orientations: int = 1) -> None:
        super().__init__()
        self.image, self.orientations = image, orientations

    def extra_repr(self) -> str:
        """The image, and how many channels are averaged together."""
        return f"image {self.image}, orientations {self.orientations}"

    def forward(self, x: Float[Tensor, "batch n"]) -> Float[Tensor, "batch fields"]:
        """Take the means."""
        return x.unflatten(1, (self.image[0] // self.orientations, -1)).mean(-1)


class PooledLinear(ResidualPathways):
    """y = M p + B x + b with p the means of images x over their positions: a broad prior on M and a narrow one on B.

    With orientations, M has two pathways: of the means over the orientations too, and of what differs between them.
    Images that a nonlinearity has made positive have means nearly as large as they are: variances are divided so that
    those of M p are right for constant images.

    Parameters
    ----------
    image : (channels, height, width) of the inputs.
    outputs : how many.
    orientations : how many channels that follow each other have a mean in common.
    parametrization : "residual" or "collapsed", see RPPLinear.

    Examples
    --------
    >>> PooledLinear((8, 4, 4), 10)(torch.randn(7, 128)).shape
    torch.Size([7, 10])
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        outputs: int,
        orientations: int = 1,
        parametrization: Parametrization = "residual",
    ) -> None:
        channels, positions = image[0], prod(image[1:])
        of_channels = torch.kron(torch.eye(channels), torch.ones(positions, 1)).double() / positions**0.5
        labels = np.arange(channels) // orientations
        parts = [OrbitBasis(labels).dense(), ContrastBasis(labels).dense()][: 2 if orientations > 1 else 1]
        every = torch.eye(outputs, dtype=torch.float64)
        bases = [KroneckerBasis(every, of_channels @ part) for part in parts]
        names = ["means over orientations", "means"][-len(bases) :]
        super().__init__((outputs, prod(image)), bases, [DenseBasis(every)], names, parametrization)
        self.channels = channels
        self.reset_parameters()

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Apply the layer to flattened images."""
        return apply_linear(x, self.effective_weight(), self.effective_bias())

    def linear_map(self) -> LinearMap:
        """See networks/layers/pathway_sums.py."""
        return LinearMap(self.shape[0], self.sums)

    def initial_beta(self) -> Float[Tensor, " rank"]:
        """Coordinates for which outputs of constant images have half their mean square."""
        return torch.randn(self.basis.rank) / math.sqrt(2 * self.shape[1])

    def structured_fan_ins(self) -> tuple[list[StructuredPathway], list[StructuredPathway]]:
        """A constant image of mean square q gives n / c q to each of the c coordinates of an output; where all
        orientations are alike, their means have n q among them.
        """
        of_all = self.shape[1] * mean_square(activated=True)
        counts = [basis.rank / self.shape[0] for basis in self.bases]
        fan_ins = [of_all, *(of_all * count / self.channels for count in counts[1:])]
        maps = [StructuredPathway(*each) for each in zip(self.bases, fan_ins, counts, strict=True)]
        return maps, [StructuredPathway(self.bias_bases[0], 1.0, 1.0)]

    def dense_fan_ins(self) -> tuple[float, float]:
        """See ResidualPathways."""
        return self.shape[1] * mean_square(activated=True), float(self.shape[1])
