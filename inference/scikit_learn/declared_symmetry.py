"""The group and the representations that an estimator declares, as text or as objects."""

from __future__ import annotations

from dataclasses import dataclass

from bayes_rpp import Group, Rep, Scalar, Trivial, Vector
from bayes_rpp.notation import as_group, as_rep
from bayes_rpp.positive_integer import positive_integer


@dataclass(frozen=True)
class DeclaredSymmetry:
    """A group, and how inputs, outputs and hidden layers transform under it.

    Attributes
    ----------
    group : the group.
    rep_in, rep_out : bound representations of the inputs and the outputs.
    channels : the width of a hidden layer, or its representation.
    """

    group: Group
    rep_in: Rep
    rep_out: Rep
    channels: int | Rep

    @classmethod
    def of(
        cls,
        group: str | Group | None,
        rep_in: str | Rep | None,
        rep_out: str | Rep | None,
        channels: int | str | Rep,
        size_in: int,
        size_out: int,
    ) -> DeclaredSymmetry:
        """Read what is declared, and compare it with the data.

        Without a group everything is a scalar, the hidden layers too. With one, inputs are a vector and outputs are
        scalars, unless representations are declared.

        Parameters
        ----------
        group : such as ``"O(3)"`` or ``O(3)``, or None.
        rep_in, rep_out : such as ``"5*Scalar + 5*Vector"``, or None.
        channels : the width of the hidden layers, or a representation.
        size_in, size_out : the numbers of features and of outputs in the data.

        Raises
        ------
        ValueError
            If a text cannot be read, a representation has another size than the data, or there is one without a group.
        TypeError
            If an argument is neither text nor such an object.

        Examples
        --------
        >>> DeclaredSymmetry.of("O(3)", "2*Vector", None, 32, size_in=6, size_out=1).rep_out
        Scalar
        """
        if group is None:
            given = {"rep_in": rep_in, "rep_out": rep_out, "channels": None if _is_integer(channels) else channels}
            if named := [name for name, value in given.items() if value is not None]:
                raise ValueError(
                    f"{named[0]}={given[named[0]]!r} says how numbers transform, but group is None: give the group "
                    "too, such as group='O(3)'."
                )
            # Scalars have a scale each, for features in different units; a vector has one for all of its coordinates.
            trivial = Trivial(size_in)
            width = positive_integer(channels, "channels")
            return cls(trivial, (size_in * Scalar)(trivial), (size_out * Scalar)(trivial), (width * Scalar)(trivial))
        if not isinstance(group, str | Group):
            raise TypeError(f"group must be text such as 'O(3)', a Group or None, got {group!r}.")
        known = as_group(group)
        inputs = _bound("rep_in", Vector if rep_in is None else rep_in, known)
        outputs = _bound("rep_out", size_out * Scalar if rep_out is None else rep_out, known)
        for name, rep, size, what in (
            ("rep_in", inputs, size_in, "features"),
            ("rep_out", outputs, size_out, "outputs"),
        ):
            if rep.size != size:
                raise ValueError(
                    f"{name} = {rep} of {known} has size {rep.size}, but the data have {size} {what}: declare a "
                    f"representation of size {size}, such as '5*Scalar + 5*Vector'."
                )
        is_width = _is_integer(channels)
        hidden = positive_integer(channels, "channels") if is_width else _bound("channels", channels, known)
        return cls(known, inputs, outputs, hidden)


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__")


def _bound(name: str, rep: object, group: Group) -> Rep:
    if not isinstance(rep, str | Rep):
        raise TypeError(f"{name} must be text such as '5*Scalar + 5*Vector' or a Rep, got {rep!r}.")
    return as_rep(rep)(group)
