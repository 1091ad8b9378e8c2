"""Any log density over a dict of tensors, for the engines to take."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import biject_to, constraints

from bayes_rpp.seeding import seeded_generator
from bayes_rpp.types import Params

Constraints = Mapping[str, constraints.Constraint]


class LogDensity:
    """Any log density over a dict of constrained tensors, for the engines to take in place of a BayesianModel.

    Parameters
    ----------
    log_density : a function of the dict, returning a scalar tensor; pure, and made of torch operations.
    example : one dict of admissible values; it gives names, shapes and dtypes.
    constraints : from ``torch.distributions.constraints``, for the names that are not free in R.

    Raises
    ------
    TypeError
        If a constraint is none of ``torch.distributions.constraints``.
    ValueError
        If a constraint has no bijection from unconstrained numbers, as "lower_cholesky" and discrete ones, the example
        breaks one, or the log density of the example is not a finite scalar.

    Examples
    --------
    >>> target = LogDensity(lambda p: -0.5 * p["z"].square().sum(), {"z": torch.zeros(3)})
    >>> target.log_joint({"z": torch.ones(3)})
    tensor(-1.5000)
    """

    def __init__(
        self,
        log_density: Callable[[Params], Float[Tensor, ""]],
        example: Params,
        constraints: Constraints | None = None,
    ) -> None:
        real = torch.distributions.constraints.real
        unknown = set(constraints or {}) - set(example)
        if unknown:
            raise ValueError(f"constraints name {sorted(unknown)}, but the example has {sorted(example)}.")
        self.log_density, self.example = log_density, dict(example)
        self.constraints = {name: (constraints or {}).get(name, real) for name in example}
        for name, value in example.items():
            check_constraint(name, self.constraints[name])
            if not self.constraints[name].check(value).all():
                raise ValueError(
                    f"the example's {name!r} = {value.tolist()} breaks its constraint {self.constraints[name]}."
                )
        value = log_density(dict(example))
        if value.shape != () or not torch.isfinite(value):
            raise ValueError(f"log_density must give a finite scalar at the example, got {value}.")

    def __repr__(self) -> str:
        real = constraints.real
        parts = [
            f"{name} {tuple(value.shape)}" + ("" if (own := self.constraints[name]) is real else f" in {own}")
            for name, value in self.example.items()
        ]
        return f"LogDensity({', '.join(parts)})"

    def initial_params(self, seed: int) -> Params:
        """Uniform on (-2, 2) in the unconstrained space, in the constrained one."""
        generator, params = seeded_generator(seed), {}
        for name, value in self.example.items():
            transform = biject_to(self.constraints[name])
            free = transform.inv(value)
            start = 4 * torch.rand(free.shape, generator=generator, dtype=torch.float64) - 2
            params[name] = transform(start.to(free))
        return params

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LogDensity:
        """Itself: a log density computes on the device and in the type of the parameters that it is given."""
        return self

    def log_joint(
        self, params: Params, x: None = None, y: None = None, num_data: int | None = None
    ) -> Float[Tensor, ""]:
        """The log density; takes no data."""
        return self.log_density(params)


def check_constraint(name: str, constraint: constraints.Constraint) -> None:
    """Raise TypeError unless it is a constraint, and ValueError unless unconstrained numbers are mapped onto it, one to
    one.
    """
    if not isinstance(constraint, constraints.Constraint):
        raise TypeError(
            f"the constraint of {name!r} must be one of torch.distributions.constraints, such as "
            f"constraints.positive, got {constraint!r}."
        )
    try:
        biject_to(constraint)
    except NotImplementedError as error:
        raise ValueError(
            f"the constraint of {name!r}, {constraint}, has no bijection from unconstrained numbers (see "
            "torch.distributions.biject_to). Give its free parts as parameters, and build it in log_density: of a "
            "Cholesky factor the entries below the diagonal, real, and the diagonal, positive; of a covariance the "
            "same, or standard deviations and the corr_cholesky factor of the correlations."
        ) from error
