"""The symmetry of an environment: a group, and how it acts on observations and actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bayes_rpp.groups.group import Group
from bayes_rpp.representations.constructors import matrix_rep
from bayes_rpp.representations.rep import Rep
from bayes_rpp.rl.features import Features, RawFeatures
from bayes_rpp.rl.verification import SymmetryReport, verify_by_simulator

Matrices = Sequence[Float[Tensor, "size size"]]


def signed_permutation(order: Sequence[int], negated: Sequence[int] = ()) -> Float[Tensor, "size size"]:
    """The matrix that takes z to y with y_k = +-z_(order_k).

    Parameters
    ----------
    order : for every new coordinate, which old one it is.
    negated : the new coordinates whose sign changes.

    Raises
    ------
    ValueError
        If ``order`` is no permutation of 0, ..., n - 1, or ``negated`` holds something else than coordinates.

    Examples
    --------
    >>> signed_permutation([0, 2, 1], negated=[0]) @ torch.tensor([1.0, 2.0, 3.0]).double()
    tensor([-1.,  3.,  2.], dtype=torch.float64)
    """
    size = len(order)
    if sorted(order) != list(range(size)):
        raise ValueError(f"order must hold each of 0 to {size - 1} once, got {list(order)}.")
    if outside := [k for k in negated if not 0 <= k < size]:
        raise ValueError(f"negated must hold coordinates from 0 to {size - 1}, got {outside}.")
    matrix = torch.eye(size, dtype=torch.float64)[list(order)]
    matrix[list(negated)] *= -1
    return matrix


@dataclass(frozen=True, repr=False)
class EnvironmentSymmetry:
    """How a group acts on the observations and actions of an environment.

    For a deterministic environment with next observation f(s, a), the group is a symmetry if f(Ts, Ta) = T f(s, a).
    ``verify`` asks the simulator.

    Parameters
    ----------
    group : what acts.
    rep_state : how it acts on the features of an observation.
    rep_action : how it acts on actions.
    features : the map from observations to coordinates on which the group acts linearly.
    set_observation : a function of the environment and an observation, a float64 array, that puts the simulator into a
        state with this observation. None does for MuJoCo environments whose observation is the positions, without the
        first one or two, the velocities, and what follows from both.
    names : of the observation's numbers, for reports; None takes those of the joints from a MuJoCo environment.

    Examples
    --------
    The mirror image of a pole on a cart; positions, angles, velocities and the force change sign:

    >>> flip = -torch.eye(4)
    >>> symmetry = EnvironmentSymmetry.of_generators(Z(2), [flip], [-torch.eye(1)])
    >>> print(symmetry.verify(gymnasium.make("InvertedPendulum-v5")))
    """

    group: Group
    rep_state: Rep
    rep_action: Rep
    features: Features = field(default_factory=RawFeatures)
    set_observation: Callable[[Any, Any], None] | None = None
    names: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        reps = f"group {self.group}, states {self.rep_state}, actions {self.rep_action}"
        return f"EnvironmentSymmetry({reps}, {self.features!r})"

    @classmethod
    def of_generators(
        cls,
        group: Group,
        state: Matrices = (),
        action: Matrices = (),
        state_algebra: Matrices = (),
        action_algebra: Matrices = (),
        **other: Any,
    ) -> EnvironmentSymmetry:
        """A symmetry from one matrix on features and one on actions for each generator of the group.

        Parameters
        ----------
        group : not a direct product.
        state, action : for each of ``group.generators``.
        state_algebra, action_algebra : for each of ``group.lie_algebra``.
        other : ``features``, ``set_observation`` and ``names``, see above.

        Raises
        ------
        ValueError
            If counts or sizes do not fit, or the matrices are no representation of the group.
        """

        reps = (_rep(group, state_algebra, state, "State"), _rep(group, action_algebra, action, "Action"))
        return cls(group, *reps, **other)

    @property
    def observation_size(self) -> int:
        """How many numbers an observation has."""
        return self.rep_state.size - self.features.size(0)

    def transform_observation(
        self, g: Float[Tensor, "*batch d d"], observation: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch n"]:
        """T s: the observation of the transformed state."""
        return self.features.observation(self.rep_state.apply(g, self.features.of(observation)))

    def transform_action(
        self, g: Float[Tensor, "*batch d d"], action: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch n"]:
        """T a: the action on the transformed state."""
        return self.rep_action.apply(g, action)

    def verify(self, env: Any, *, states: int = 32, seed: int = 0) -> SymmetryReport:
        """Run the simulator from states and from their images, and compare.

        States are those after a few random actions, taken through their observations, so that nothing that is not
        observed makes a difference. Each is left by a random action, and its image by the image of the action. Actions
        are uniform within their bounds, and within -1 and 1 where there are none. Wrong signs are looked for and named;
        of a wrong permutation only the coordinates with the largest errors are.

        Parameters
        ----------
        env : a Gymnasium environment, in no wrapper that changes its observations; it is left in another state.
        states : how many.
        seed : of the states and the actions.

        Raises
        ------
        ValueError
            If the environment's observations or actions are of another size or kind, bounds of actions are not
            symmetric, or a state that is set from its observation does not go on as the real one did.
        """
        return verify_by_simulator(self, env, states, seed)


def _rep(group: Group, algebra: Matrices, generators: Matrices, name: str) -> Rep:
    """The sum of the representations on blocks of coordinates that do not mix; equal blocks are one representation."""
    given = {
        kind: torch.stack([torch.as_tensor(matrix, dtype=torch.float64) for matrix in matrices])
        for kind, matrices in (("lie_algebra", algebra), ("generators", generators))
        if len(matrices)
    }
    shapes = {matrices.shape[1:] for matrices in given.values()}
    if len(shapes) != 1 or any(len(shape) != 2 or shape[0] != shape[1] for shape in shapes):
        return matrix_rep(group, **given, name=name)  # which says what is wrong
    reps: dict[bytes, Rep] = {}
    total: Rep | None = None
    for block in _blocks(list(given.values())):
        parts = {kind: matrices[:, block, block].contiguous() for kind, matrices in given.items()}
        content = b"".join((part + 0.0).numpy().tobytes() for part in parts.values())
        if content not in reps:
            reps[content] = matrix_rep(group, **parts, name=f"{name}[{block.start}:{block.stop}]")
        total = reps[content] if total is None else total + reps[content]
    assert total is not None
    return total


def _blocks(stacks: list[Float[Tensor, "matrix size size"]]) -> Iterator[slice]:
    """The finest contiguous blocks along which all matrices are block-diagonal."""
    mixed = torch.cat(stacks).abs().sum(0) > 0
    start = 0
    for stop in range(1, len(mixed) + 1):
        if not (mixed[:stop, stop:].any() or mixed[stop:, :stop].any()):
            yield slice(start, stop)
            start = stop
