"""Networks for images: convolutions, dense layers, or residual pathway layers that prefer convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from bayes_rpp.bases.convolutions.planar_groups import ORDERS, Field, PlanarGroup
from bayes_rpp.bases.convolutions.toeplitz import PaddingMode
from bayes_rpp.networks.descriptions import parameters_text
from bayes_rpp.networks.emlp import PlainLinear
from bayes_rpp.networks.layers.convolution import EquivariantConv2d, RPPConv2d
from bayes_rpp.networks.layers.image_map import ImageMap
from bayes_rpp.networks.layers.pathway_layer import check_parametrization
from bayes_rpp.networks.layers.pathway_sums import Parametrization
from bayes_rpp.networks.layers.pooled_linear import ImageMean, PooledLinear
from bayes_rpp.networks.precision import weights_dtype
from bayes_rpp.positive_integer import positive_integer
from bayes_rpp.representations.images import image_rep
from bayes_rpp.representations.rep import Rep, Scalar

Kind = Literal["rpp", "conv", "mlp"]
Head = Literal["dense", "mean"]
Image = tuple[int, int, int]


class OfImages(nn.Module):
    """A module of images, applied to flattened ones."""

    def __init__(self, module: nn.Module, image: Image) -> None:
        super().__init__()
        self.module, self.image = module, image

    def forward(self, x: Float[Tensor, "batch n"]) -> Float[Tensor, "batch m"]:
        """Apply the module."""
        result: Tensor = self.module(x.unflatten(1, self.image))
        return result.flatten(1)


class RPPConvNet(nn.Module):
    """Layers of images with ReLU, and one linear layer to the outputs (Finzi, Benton & Wilson, NeurIPS 2021, appendix
    C.2), of one of three kinds that differ in nothing but their pathways.

    Parameters
    ----------
    image : (channels, height, width) of the inputs.
    outputs : how many.
    channels : of each hidden layer; with a group, the number of fields of 4 ("p4") or 8 channels ("p4m").
    kind : "rpp", convolution plus dense layer (see RPPConv2d); "conv", the convolution alone; "mlp", the dense one
        alone, of the same sizes.
    kernel_size : of all kernels; images are padded by half of it.
    strides : one for all layers, or one for each.
    pool_after : after which layers, numbered from 1, the images are halved by max-pooling.
    padding_mode : "zeros" or "circular".
    head : "dense", a linear layer of all numbers of the last images, which has no pathways; or "mean", one of their
        means over positions (and orientations, with a group), to which the kind "rpp" adds a dense pathway, so that
        the network prefers to be invariant.
    group : "p4", "p4m" or None, see RPPConv2d; a quarter turn of the inputs then only turns the last images.
    normalize : whether to give each image mean 0 and variance 1, over its channels and positions, before each ReLU.
    parametrization : of the kind "rpp", see RPPConv2d.

    Attributes
    ----------
    rep_in, rep_out, group : cyclic shifts of the inputs, and outputs that do not change (see ``image_rep``); with a
        planar group, its quarter turns and reflections.

    Raises
    ------
    ValueError
        If an argument is none of these, sizes do not fit, or images become empty.

    Examples
    --------
    >>> net = RPPConvNet((3, 32, 32), 10, [16, 16, 16, *[32] * 6], pool_after=[3, 6])
    >>> net(torch.randn(7, 3, 32, 32)).shape
    torch.Size([7, 10])
    """

    def __init__(
        self,
        image: Image,
        outputs: int,
        channels: Sequence[int] = (32, 32, 32),
        kind: Kind = "rpp",
        *,
        kernel_size: int = 3,
        strides: int | Sequence[int] = 1,
        pool_after: Sequence[int] = (),
        padding_mode: PaddingMode = "zeros",
        head: Head = "dense",
        group: PlanarGroup | None = None,
        normalize: bool = False,
        parametrization: Parametrization = "residual",
    ) -> None:
        super().__init__()
        self.image, self.outputs, self.channels, self.kind = _as_image(image), outputs, list(channels), kind
        self.kernel_size, self.padding_mode, self.head, self.planar = kernel_size, padding_mode, head, group
        self.strides = [strides] * len(self.channels) if isinstance(strides, int) else list(strides)
        self.pool_after, self.normalize, self.parametrization = sorted(pool_after), normalize, parametrization
        self._check()
        self.rep_in: Rep = image_rep(self.image, group or "shifts")
        self.rep_out, self.group = outputs * Scalar(self.rep_in.bound_group), self.rep_in.bound_group
        self.input_shapes = [self.image, (self.rep_in.size,)]
        self.network = nn.Sequential(*self._layers())

    def forward(self, x: Float[Tensor, "batch *image"]) -> Float[Tensor, "batch outputs"]:
        """Map images (batch, channels, height, width), or flattened ones, of floating-point numbers or bytes; raises
        ValueError for other sizes.
        """
        if tuple(x.shape[1:]) not in self.input_shapes:
            size = ", ".join(map(str, self.image))
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but the network takes images (batch, {size}), or flattened ones, "
                f"(batch, {self.rep_in.size})."
            )
        result: Tensor = self.network(x.flatten(1).to(weights_dtype(self)))
        return result

    def __repr__(self) -> str:
        group = f", group {self.planar}" if self.planar else ""
        settings = f"{self.kind}, image {self.image} -> {self.outputs} outputs{group}, channels {self.channels}"
        return f"RPPConvNet({settings}; {parameters_text(self)})"

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild the network."""
        names = ("image", "outputs", "channels", "kind", "kernel_size", "strides", "pool_after", "padding_mode", "head")
        own = {name: getattr(self, name) for name in (*names, "normalize", "parametrization")}
        return own | {"image": list(self.image), "group": self.planar}

    def _layers(self) -> list[nn.Module]:
        layers: list[nn.Module] = []
        image, fields = self.image, 1 if self.planar is None else ORDERS[self.planar]
        for number, (channels, stride) in enumerate(zip(self.channels, self.strides, strict=True), 1):
            layer, image = self._hidden(image, fields * channels, stride, first=number == 1)
            layers.append(layer)
            if self.normalize:
                layers.append(OfImages(nn.GroupNorm(1, image[0], affine=False), image))
            layers.append(nn.ReLU())
            if number in self.pool_after:
                if self.planar is not None and image[1] % 2:
                    raise ValueError(f"halving images of {image[1]} x {image[2]} takes no account of quarter turns.")
                layers.append(OfImages(nn.MaxPool2d(2), image))
                image = image[0], image[1] // 2, image[2] // 2
                if not prod(image):
                    raise ValueError(f"the images are empty after layer {number}: pool less, or take larger ones.")
        return [*layers, *self._last(image, fields)]

    def _hidden(self, image: Image, channels: int, stride: int, first: bool) -> tuple[nn.Module, Image]:
        """A layer, and the size of its images."""
        fields: tuple[Field, Field] = ("scalar" if first else "regular", "regular")
        options: dict[str, Any] = {
            "image": image[1:],
            "stride": stride,
            "padding": self.kernel_size // 2,
            "padding_mode": self.padding_mode,
            "activated": not first,
        }
        if self.planar is not None:
            options |= {"group": self.planar, "fields": fields}
        sizes = image[0], channels, self.kernel_size
        if self.kind == "rpp":
            layer = RPPConv2d(*sizes, parametrization=self.parametrization, **options)
            return layer, layer.map.shape_out
        if self.kind == "conv":
            exact = EquivariantConv2d(*sizes, **options)
            return exact, exact.map.shape_out
        del options["activated"]
        after = ImageMap(*sizes, **options).shape_out
        return PlainLinear(prod(image), prod(after)), after

    def _last(self, image: Image, orientations: int) -> list[nn.Module]:
        if self.head == "dense" or self.kind == "mlp":
            return [PlainLinear(prod(image), self.outputs)]
        if self.kind == "conv":
            return [ImageMean(image, orientations), PlainLinear(image[0] // orientations, self.outputs)]
        return [PooledLinear(image, self.outputs, orientations, self.parametrization)]

    def _check(self) -> None:
        for name, given, known in (("kind", self.kind, get_args(Kind)), ("head", self.head, get_args(Head))):
            if given not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}.")
        for name, numbers in (("outputs", [self.outputs]), ("channels", self.channels), ("strides", self.strides)):
            for number in numbers:
                positive_integer(number, name)
        if len(self.strides) != len(self.channels):
            raise ValueError(f"got {len(self.strides)} strides for {len(self.channels)} layers; give one for each.")
        if wrong := [number for number in self.pool_after if not 1 <= number <= len(self.channels)]:
            raise ValueError(f"pool_after names layer {wrong[0]}, but there are {len(self.channels)}, numbered from 1.")
        if len(set(self.pool_after)) < len(self.pool_after):
            raise ValueError(f"pool_after must name a layer once, got {self.pool_after}.")
        check_parametrization(self.parametrization)
        positive_integer(self.kernel_size, "kernel_size")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that padding keeps the size, got {self.kernel_size}.")


def _as_image(image: Sequence[int]) -> Image:
    if len(image) != 3:
        raise ValueError(f"image must be (channels, height, width), got {tuple(image)}.")
    channels, height, width = (positive_integer(number, "image") for number in image)
    return channels, height, width
