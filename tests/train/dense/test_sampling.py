from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aweigh.train.dense.points import make_points
from aweigh.train.dense.sampling import cells_of, sample_zero_outside


def test_cells_of_two_levels() -> None:
    cells = cells_of(make_points([(2, 3), (1, 2)], [8, 16], 0.5), torch.float32)
    assert cells.place.tolist() == [[0, 0, 0, 1, 1, 1, 0, 0], [0, 1, 2, 0, 1, 2, 0, 1]]
    assert cells.last.tolist() == [[1] * 6 + [0] * 2, [2] * 6 + [1] * 2]
    assert cells.first.tolist() == [0] * 6 + [6] * 2


def test_samples_outside_the_map_are_zero_and_in_between_are_bilinear() -> None:
    cells = cells_of(make_points([(3, 4)], [8], 0.5), torch.float32)
    place = torch.zeros(2, 1, 1, 12)
    place[:, 0, 0, :4] = torch.tensor([[0.5, -1.0, -0.5, 2.0], [0.5, 0.0, 0.0, 3.0]])
    samples = sample_zero_outside(torch.arange(12.0).reshape(1, 1, 12), place, cells)
    assert samples[0, 0, :4].tolist() == pytest.approx([2.5, 0.0, 0.0, 11.0])


@pytest.mark.parametrize("shapes", [[(7, 5)], [(7, 5), (4, 3), (1, 1)]])
def test_against_grid_sample(shapes: list[tuple[int, int]]) -> None:
    """Places within the map and outside; torch's own sampling has the places scaled to -1 to 1."""
    generator = torch.Generator().manual_seed(0)
    points = make_points(shapes, [8, 16, 32][: len(shapes)], 0.5, dtype=torch.float64)
    cells, count = cells_of(points, torch.float64), len(points.xy)
    values = torch.randn(2, 3, count, generator=generator, dtype=torch.float64)
    place = cells.place[:, None, None] + torch.randn(2, 2, 3, count, generator=generator, dtype=torch.float64) * 3
    samples, start = sample_zero_outside(values, place, cells), 0
    for rows, columns in shapes:
        own = slice(start, start + rows * columns)
        maps = values[..., own].reshape(6, 1, rows, columns)
        scaled = torch.stack(
            ((place[1, ..., own] + 0.5) * 2 / columns - 1, (place[0, ..., own] + 0.5) * 2 / rows - 1), -1
        )
        expected = F.grid_sample(maps, scaled.reshape(6, 1, -1, 2), "bilinear", "zeros", align_corners=False)
        torch.testing.assert_close(samples[..., own].reshape(6, -1), expected.reshape(6, -1))
        start = own.stop
