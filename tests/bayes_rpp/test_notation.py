"""Text to groups and representations, and the places that errors point at."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_rpp import (
    O13,
    SL,
    SO,
    SO13,
    Cube,
    D,
    DkeR3,
    O,
    O2eR3,
    PseudoScalar,
    Rep,
    RubiksCube,
    S,
    Scalar,
    SO2eR3,
    SO13p,
    Sp,
    T,
    Trivial,
    Vector,
    Z,
    parse_group,
    parse_rep,
)
from bayes_rpp.representations.factors import DUAL, SIGN, VECTOR

NAMED_GROUPS = [Trivial(3), Z(1), Z(4), S(5), D(3), SO(2), SO(3), O(1), O(3), SL(2), SO2eR3(), O2eR3()]
NAMED_GROUPS += [Sp(2), SO13p(), SO13(), O13(), DkeR3(4), Cube(), RubiksCube(), SO(3) * S(5), O(2) * Cube() * Sp(1)]
NAMES = {"Scalar": Scalar, "PseudoScalar": PseudoScalar, "Vector": Vector, "T": T}

pieces = st.lists(st.sampled_from([VECTOR, DUAL, SIGN]), max_size=5).map(tuple)
representations = st.lists(st.tuples(st.integers(0, 12), pieces), max_size=6).map(Rep)
reproducible = settings(max_examples=200, deadline=None, derandomize=True, database=None)

atoms = st.sampled_from(["Scalar", "PseudoScalar", "Vector", "T(0)", "T(2)", "T( 1, 2 )", "T(0,1)"])


def _combine(inner):
    return st.one_of(
        st.tuples(inner, inner).map(" + ".join),
        st.tuples(inner, inner).map("{0[0]}*({0[1]})".format),
        st.tuples(st.integers(0, 3), inner).map("{0[0]} *({0[1]})".format),
        st.tuples(inner, st.integers(0, 2)).map("({0[0]})**{0[1]}".format),
        st.tuples(atoms, st.integers(0, 2), st.integers(0, 3)).map("{0[0]}**{0[1]}*{0[2]}".format),
    )


expressions = st.recursive(atoms, _combine, max_leaves=4)


@reproducible
@given(representations)
def test_every_representation_reads_back_from_its_text(rep):
    assert parse_rep(str(rep)) == rep


@reproducible
@given(representations, st.sampled_from([SO(3), O(3), SL(2), S(3)]))
def test_every_bound_representation_reads_back_from_its_text(rep, group):
    assert parse_rep(str(rep(group)))(group) == rep(group)


@reproducible
@given(expressions)
def test_text_means_what_it_means_in_python(text):
    assert parse_rep(text) == eval(text, {}, NAMES)


def test_every_named_group_reads_back_from_its_text(subtests):
    for group in NAMED_GROUPS:
        with subtests.test(msg=str(group)):
            found = parse_group(str(group))
            assert found == group
            assert type(found) is type(group)


@pytest.mark.parametrize("text", ["O(3)", " O(3)", "O( 3 )", "O (3)\n"])
def test_blanks_do_not_matter(text):
    assert parse_group(text) == O(3)
    assert parse_rep(f" 2 *{text}".replace("O", "T").replace("3", "1")) == 2 * Vector


def place_of_error(parse, text):
    with pytest.raises(ValueError, match="cannot read this") as error:
        parse(text)
    _, quoted, caret = str(error.value).split("\n")
    assert quoted == f"  {text}"
    assert caret.strip() == "^"
    return caret.index("^") - 2


MISTAKES_IN_REPRESENTATIONS = [
    ("", 0),
    ("Vectr", 0),
    ("  Vectr", 2),
    ("5*Scalar + Vectr", 11),
    ("5*", 2),
    ("5*Scalar +", 10),
    ("Scalar Vector", 7),
    ("2", 0),
    ("Scalar + 3", 9),
    ("2*3 + Scalar", 0),
    ("2**Vector", 0),
    ("-1*Vector", 0),
    ("(Scalar", 7),
    ("Scalar)", 6),
    ("()", 1),
    ("T", 1),
    ("T(x)", 2),
    ("T(-1)", 2),
    ("T(1", 3),
    ("T(1,", 4),
    ("Vector**", 8),
    ("Vector**Vector", 8),
    ("Vector & Scalar", 7),
    ("1.5*Vector", 1),
    ("Vector*O(3)", 7),
]


def test_errors_in_representations_point_at_their_place(subtests):
    for text, place in MISTAKES_IN_REPRESENTATIONS:
        with subtests.test(msg=text):
            assert place_of_error(parse_rep, text) == place


@pytest.mark.parametrize(("text", "first", "last"), [("Scalar + T(1,2,3) + Scalar", 9, 16), ("T() + Scalar", 0, 2)])
def test_a_wrong_number_of_arguments_is_marked_where_it_stands(text, first, last):
    assert first <= place_of_error(parse_rep, text) <= last


MISTAKES_IN_GROUPS = [
    ("", 0),
    ("Q(3)", 0),
    ("  Q(3)", 2),
    ("O", 0),
    ("O()", 0),
    ("O(3", 3),
    ("O(3) x", 5),
    ("O(three)", 2),
    ("O(3)!", 4),
    ("(O(3))", 0),
    ("3", 0),
]


def test_errors_in_groups_point_at_their_place(subtests):
    for text, place in MISTAKES_IN_GROUPS:
        with subtests.test(msg=text):
            assert place_of_error(parse_group, text) == place


@pytest.mark.parametrize("text", ["SO(1)", "Z(0)", "O(3,4)", "SO2eR3(1)"])
def test_impossible_arguments_of_a_group_are_marked_where_they_stand(text):
    assert place_of_error(parse_group, text) < len(text)


def test_messages_name_what_is_known():
    with pytest.raises(
        ValueError, match=r"unknown group 'Q'; known are Trivial, Z, S, D, SO, O, SL, Sp, .*DkeR3, SO2eR3, O2eR3, Cube"
    ):
        parse_group("Q(3)")
    with pytest.raises(
        ValueError, match=r"unknown representation 'Q'; known are Scalar, PseudoScalar, Vector, .*T\(p\) and T\(p,q\)"
    ):
        parse_rep("Q")
    with pytest.raises(ValueError, match=r"the number 6 must multiply a representation, as in 6\*Scalar"):
        parse_rep("2*3")


@pytest.mark.parametrize("parse", [parse_group, parse_rep])
@pytest.mark.parametrize("value", [3, None, Vector])
def test_only_text_is_read(parse, value):
    with pytest.raises(TypeError, match="must be given as text, got"):
        parse(value)
