"""The pages of results are what the scripts write from the recorded numbers, and the README's numbers stand on them."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES, BENCHMARKS, PAGES = ROOT / "examples", ROOT / "tests" / "benchmarks", ROOT / "docs" / "results"
SCRIPTS = sorted(path.stem for path in EXAMPLES.rglob("*.py") if (PAGES / f"{path.stem}.md").exists())


def test_every_record_has_its_page_and_date():
    dates = json.loads((EXAMPLES / "results" / "records.json").read_text())
    records = {path.stem for path in (EXAMPLES / "results").glob("*.json")} - {"records", "benchmarks"}
    assert records == set(SCRIPTS) == set(dates)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", noted["date"]) for noted in dates.values())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_page_is_what_its_script_writes(script, name):
    module = script(name)
    assert (
        module.report(json.loads((EXAMPLES / "results" / f"{name}.json").read_text()))
        == (PAGES / f"{name}.md").read_text()
    )


def test_the_pages_of_benchmarks_are_what_their_script_writes(script):
    record = script("record")
    assert record.speed_page() == (PAGES / "speed.md").read_text()
    assert record.bases_page() == (PAGES / "bases.md").read_text()


def test_the_sample_is_what_its_script_writes(script):
    sample = script("sample_data")
    written, committed = sample.lines(), sample.SAMPLE.read_text().splitlines()
    assert written[0] == committed[0]
    assert len(written) == len(committed) == 301
    for new, old in zip(written[1:], committed[1:], strict=True):
        assert [float(value) for value in new.split(",")] == pytest.approx(
            [float(value) for value in old.split(",")], abs=2e-4
        )


def test_the_numbers_of_the_readme_stand_on_the_pages_that_it_links():
    rows = re.findall(
        r"^\|(.*)\| \[[^]]+\]\((docs/results/\w+\.md)\) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 14
    for row, page in rows:
        numbers = re.findall(r"\*\*([\d.]+)x?\*\*", row)
        assert numbers, row
        text = (ROOT / page).read_text()
        for number in numbers:
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text), (row, number)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
