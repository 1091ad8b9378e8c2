"""The scripts that measure networks of images: each measures and tabulates, when tiny."""

from functools import partial
from types import SimpleNamespace

import torch

from bayes_rpp.datasets import ImageData, LabelledImages
from bayes_rpp.datasets.regression_data import Split
from tests.test_paper_scripts import measured, rows


def test_table_1_of_tables_chooses_by_what_was_left_out(script, monkeypatch):
    table1 = script("table1_uci")

    def uci(name, split, root):
        x = torch.randn(60, 8, dtype=torch.float64)
        y = 3 + 5 * x[:, :1] + 0.1 * torch.randn(60, 1)
        return SimpleNamespace(train=Split(x[:50], y[:50]), test=Split(x[50:], y[50:]))

    monkeypatch.setattr(table1, "uci", uci)
    cases = [("wine", kind, "0") for kind in table1.KINDS]
    results = measured(partial(table1.run, size=table1.Size(1, 2, 5), root=None), *cases)
    assert len(rows(table1.report(results))) == 3
    for row in results.values():
        assert 0 < row["mse"] < 100
        assert 0 <= row["coverage"] <= 1
        assert row["variance"] in {value for values in table1.VARIANCES.values() for value in values}
    assert "as a geometric mean over 1 table(s)" in table1.report(results)


def test_table_1_of_images_is_resumed_from_its_checkpoints(script, monkeypatch, tmp_path, capsys):
    table1 = script("table1_cifar")
    labels = torch.arange(60) % 10
    part = LabelledImages((25 * labels)[:, None, None, None].expand(60, 3, 32, 32).to(torch.uint8), labels)
    monkeypatch.setattr(table1, "cifar10", lambda root: ImageData(part, part, tuple("0123456789")))
    size = table1.QUICK._replace(side=4, examples=60)
    run = partial(table1.run, size=size, root=None, out=tmp_path / "table1_cifar.json")
    results = measured(run, *((kind,) for kind in table1.KINDS))
    assert len(rows(table1.report(results))) == 3 + 2 + 4  # kinds, and the layers below a head of their own
    again = run("rpp")
    for name in ("errors", "log losses", "ensemble", "dense shares", "variance", "rate"):
        assert again[name] == results["rpp"][name]
    assert "dense weights, " in capsys.readouterr().out
    assert "786,432,000" not in table1.estimate("conv", table1.FULL)
    assert table1.estimate("rpp", table1.FULL).startswith("rpp: 76")  # 768 million


def test_tasks_of_images_have_the_symmetries_that_they_say(script):
    symmetries = script("image_symmetries")
    images, labels = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 10
    for task in symmetries.TASKS:
        x, y = symmetries.examples(task, images, labels, 0)
        assert x.shape == images.shape
        assert torch.equal(x.flatten(1).sort().values, images.flatten(1).sort().values)
        if task in ("shifted", "turned"):
            assert torch.equal(y, labels)
    turned, turns = symmetries.examples("orientation", images, labels, 0)
    assert all(torch.equal(x.rot90(-int(k), (1, 2)), image) for x, k, image in zip(turned, turns, images, strict=True))
    moved, halves = symmetries.examples("place", images, labels, 0)
    for x, half, image in zip(moved, halves, images, strict=True):
        assert torch.equal(x, image.roll((4 * int(half // 2), 4 * int(half % 2)), (1, 2)))
    results = measured(partial(symmetries.run, size=symmetries.QUICK), ("place", "rpp, others 1"), ("place", "mlp"))
    assert len(rows(symmetries.report(results))) == 1 + 2 + 1
