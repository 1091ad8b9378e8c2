"""Convolutions of images, and residual pathway layers that prefer them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from bayes_rpp.bases.convolutions.planar_groups import Field, PlanarGroup
from bayes_rpp.bases.convolutions.toeplitz import PaddingMode
from bayes_rpp.networks.layers.image_map import ImageMap, Size, mean_square
from bayes_rpp.networks.layers.linear import coordinates_parameter
from bayes_rpp.networks.layers.pathway_layer import ResidualPathways
from bayes_rpp.networks.layers.pathway_sums import LinearMap, Parametrization, PathwaySum
from bayes_rpp.networks.layers.roles import ParameterRole, StructuredPathway


class RPPConv2d(ResidualPathways):
    """The residual pathway layer of images: a convolution plus a dense layer of all pixels, y = (A + B) x + (a + b),
    with a broad prior on the kernels of A and a narrow one on B (Finzi, Benton & Wilson, NeurIPS 2021, section 5.4).

    With a planar group, A is the sum of a convolution that is equivariant under quarter turns ("p4"), or also under
    reflections ("p4m"), and of another convolution, each with its variance (see PlanarGroup for the action).

    Parameters
    ----------
    in_channels, out_channels : c_in and c_out.
    kernel_size : of the convolution, one number or (height, width).
    image : the inputs' size, one number or (height, width): that of the dense part.
    stride, padding : see ``torch.nn.Conv2d``; one number for both axes.
    padding_mode : "zeros", or "circular" for images on a torus.
    bias : whether to add a bias, itself the sum of a constant for each channel and a dense vector.
    parametrization : "residual" holds ``beta``, ``dense`` (m, n), ``bias_beta``, ``bias_dense`` (m,), with n = c_in h w
        and m = c_out h' w'; "collapsed" holds their sums ``weight`` and ``bias``, see RPPLinear. With a group the
        coordinates are ``beta_0`` of its convolutions and ``beta_1`` of the others.
    group : "p4", "p4m" or None.
    fields : of the input and output channels, "scalar", or "regular": one channel for each of the 4 or 8 orientations,
        so that the number of channels is a multiple of that.
    activated : whether the inputs come from a nonlinearity that keeps half of their mean square, as ReLU, for the
        prior.

    Raises
    ------
    ValueError
        If the parametrization is unknown, a number is not positive, the kernel does not fit on the padded image, or the
        image has no quarter turns.

    Examples
    --------
    >>> layer = RPPConv2d(3, 8, 3, image=16, padding=1)
    >>> layer(torch.randn(7, 3, 16, 16)).shape
    torch.Size([7, 8, 16, 16])
    >>> {name: tuple(value.shape) for name, value in layer.named_parameters()}
    {'beta': (216,), 'dense': (2048, 768), 'bias_beta': (8,), 'bias_dense': (2048,)}
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        image: Size,
        stride: int = 1,
        padding: int = 0,
        padding_mode: PaddingMode = "zeros",
        bias: bool = True,
        parametrization: Parametrization = "residual",
        group: PlanarGroup | None = None,
        fields: tuple[Field, Field] = ("scalar", "scalar"),
        activated: bool = False,
    ) -> None:
        found = ImageMap(in_channels, out_channels, kernel_size, image, stride, padding, padding_mode, group, fields)
        super().__init__(found.shape, found.bases, found.bias_bases if bias else None, found.names, parametrization)
        self.map, self.activated = found, activated
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The convolution, and see ResidualPathways."""
        return f"{self.map}; {super().extra_repr()}"

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Map images (*batch, c_in, h, w) to (*batch, c_out, h', w'), or flattened ones (*batch, n) to (*batch, m).
        Raises ValueError for images of another size.
        """
        rows, shape = self.map.flat(x)
        if self.parametrization == "collapsed" or self.map.as_matrix:
            return functional.linear(rows, self.effective_weight(), self.effective_bias()).reshape(shape)
        betas, bias_betas = ([getattr(self, name) for name in parts.structured] for parts in self._two_sums())
        images = self.map.convolve(rows.unflatten(1, self.map.shape_in), betas, bias_betas)
        result = torch.addmm(images.flatten(1), rows, self.dense.mT)
        return (result if self.bias_dense is None else result + self.bias_dense).reshape(shape)

    def _two_sums(self) -> tuple[PathwaySum, PathwaySum]:
        """Those of the weight and the bias, an empty one if there is none."""
        return self.sums[0], self.sums[1] if self.has_bias else PathwaySum("", "", {})

    def linear_map(self) -> LinearMap:
        """See networks/layers/pathway_sums.py."""
        return LinearMap(self.shape[0], self.sums)

    def initial_beta(self) -> Float[Tensor, " rank"]:
        """See ResidualPathways."""
        return self.map.initial_beta()

    def structured_fan_ins(self) -> tuple[list[StructuredPathway], list[StructuredPathway]]:
        """See ResidualPathways."""
        return self.map.fan_ins(self.activated)

    def dense_fan_ins(self) -> tuple[float, float]:
        """See ResidualPathways."""
        return self.shape[1] * mean_square(self.activated), float(self.shape[1])


class EquivariantConv2d(nn.Module):
    """A convolution by its coordinates in an orthonormal basis: the first structured pathway of RPPConv2d alone.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, image, stride, padding, padding_mode, bias, group, fields, activated : see
        RPPConv2d.

    Attributes
    ----------
    beta : (rank,) without a group, the kernels' entries, each times the square root of the number of pairs of positions
        that it connects.
    bias_beta : without a group, the channels' constants times the square root of the number of positions.

    Examples
    --------
    >>> EquivariantConv2d(3, 8, 3, image=16, padding=1)(torch.randn(7, 3, 16, 16)).shape
    torch.Size([7, 8, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        image: Size,
        stride: int = 1,
        padding: int = 0,
        padding_mode: PaddingMode = "zeros",
        bias: bool = True,
        group: PlanarGroup | None = None,
        fields: tuple[Field, Field] = ("scalar", "scalar"),
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.map = ImageMap(in_channels, out_channels, kernel_size, image, stride, padding, padding_mode, group, fields)
        self.activated = activated
        self.beta = coordinates_parameter(self.map.bases[0])
        self.bias_beta = coordinates_parameter(self.map.bias_bases[0]) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw a new initial state from torch's global generator."""
        if self.beta is not None:
            self.beta.copy_(self.map.initial_beta())
        if self.bias_beta is not None:
            nn.init.zeros_(self.bias_beta)

    def extra_repr(self) -> str:
        """The convolution."""
        return str(self.map)

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """See RPPConv2d."""
        rows, shape = self.map.flat(x)
        if self.map.as_matrix and self.beta is not None:
            weight = self.map.bases[0].expand(self.beta).unflatten(0, self.map.shape)
            bias = None if self.bias_beta is None else self.map.bias_bases[0].expand(self.bias_beta)
            return functional.linear(rows, weight, bias).reshape(shape)
        images = rows.unflatten(1, self.map.shape_in)
        return self.map.convolve(images, [self.beta], [self.bias_beta]).reshape(shape)

    def linear_map(self) -> LinearMap:
        """See networks/layers/pathway_sums.py."""
        sums = [PathwaySum("", "", {"beta": self.map.bases[0]})]
        if self.bias_beta is not None:
            sums.append(PathwaySum("", "", {"bias_beta": self.map.bias_bases[0]}))
        return LinearMap(self.map.shape[0], sums)

    def roles(self) -> dict[str, ParameterRole]:
        """See PathwayLayer."""
        (kernels, *_), (constants, *_) = self.map.fan_ins(self.activated)
        roles = {
            name: ParameterRole("equivariant", part.fan_in, part.layer_fan_in)
            for name, part in (("beta", kernels), ("bias_beta", constants))
        }
        return {name: roles[name] for name, _ in self.named_parameters()}
