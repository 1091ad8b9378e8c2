"""Group elements for points: drawn once each, block by block where there are many."""

import pytest
import torch

from analysis import equivariance_error
from analysis.symmetry import group_elements
from analysis.symmetry.group_elements import GroupElements
from bayes_rpp import SO, O, S, Vector, Z


@pytest.mark.parametrize("group", [O(3), S(4), SO(3) * S(4)], ids=str)
def test_every_block_is_drawn_once_and_pieces_of_it_are_the_same_elements(group, monkeypatch):
    whole = GroupElements(group, 3, 10, seed=5).at(slice(0, 10))
    assert torch.equal(whole, group.join(group.sample(30, 5)).unflatten(0, (3, 10)))
    monkeypatch.setattr(group_elements, "_BYTES_OF_A_BLOCK", 4 * 3 * 8 * group.d**2)
    elements = GroupElements(group, 3, 10, seed=5)
    assert elements.blocks == [slice(0, 3), slice(3, 6), slice(6, 10)]
    blocks = [elements.at(block) for block in elements.blocks]
    assert torch.equal(blocks[0], group.join(group.sample(9, 5)).unflatten(0, (3, 3)))
    assert len(torch.cat([block.flatten(0, 1) for block in blocks]).unique(dim=0)) > 9  # other seeds, other elements
    for block, drawn in zip(elements.blocks, blocks, strict=True):
        for point in range(block.start, block.stop):
            one = slice(point, point + 1)
            assert torch.equal(elements.at(one), drawn[:, point - block.start : point - block.start + 1])


def test_elements_that_stand_still_are_drawn_anew_in_every_block(monkeypatch):
    monkeypatch.setattr(group_elements, "_BYTES_OF_A_BLOCK", 4 * 8 * 2**2)
    elements = GroupElements(Z(2), 2, 9, seed=0, moving=(Vector(Z(2)),))
    assert len(elements.blocks) > 2
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    assert all((elements.at(block) == swap).all() for block in elements.blocks)


def test_elements_that_are_given_or_shared_are_those_of_every_point():
    given = O(3).sample(4, 0)
    for elements in (GroupElements(O(3), given, 7, 0), GroupElements(O(3), 4, 7, 0, shared=True)):
        assert elements.count == 4
        assert torch.equal(elements.at(slice(2, 5)), given[:, None])


def test_errors_in_blocks_have_the_same_bits_again_and_given_elements_their_own_error(monkeypatch):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    about = torch.eye(3, dtype=torch.float64)[None].repeat(2, 1, 1)
    about[1] = -about[1]
    reps = {"rep_in": Vector(O(3)), "rep_out": Vector(O(3))}

    def even(points):
        return points.square()

    whole = equivariance_error(even, x, elements=about, **reps)
    assert float(whole) == pytest.approx(0.5)  # 0 for the identity, and 1 for the inversion
    monkeypatch.setattr(group_elements, "_BYTES_OF_A_BLOCK", 8 * 9 * 5)
    repeated = [equivariance_error(even, x, elements=3, seed=2, **reps) for _ in range(2)]
    assert repeated[0] == repeated[1]
