"""Commands and tables as people get them wrong: each is told what is wrong, and what to type instead."""

import shlex

import numpy as np
import pandas as pd
import pytest

from analysis.cli import main as cli

TINY = "--members 1 --channels 4 --layers 0 --epochs 1"
GROUP = '--group "O(3)" --rep-in Vector --rep-out Scalar'
NAMES = ("x1", "x2", "x3", "y1")

# What is typed, and what the message must say. Runs are in "run" and "other"; nothing else is ever written.
WRONG = {
    "fit": "the following arguments are required: DATA",
    "fitt good.csv": "invalid choice: 'fitt'",
    "fit nowhere.csv": "there is no data file nowhere.csv",
    "fit .": ". is a folder, not a table",
    "fit good.xls": "good.xls must be a .csv, .tsv, .txt",
    "fit good.csv --y z*": "has no column 'z*' (from --y); its columns are x1, x2, x3, y1",
    "fit good.csv --x x1,x9": "has no column 'x9' (from --x); its columns are x1, x2, x3, y1",
    "fit good.csv --x x1,,x2": "--x has an empty name, as before or after a comma",
    "fit good.csv --y x1": "column 'x1' of good.csv is both an input and an output; narrow --x or --y",
    "fit comma.csv --x x,x2": "has no column 'x' (from --x); its columns are \"x, first\", x2, y1",
    'fit good.csv --group "O(3)"': "--rep-in and --rep-out missing: a symmetry needs --group, --rep-in and --rep-out",
    "fit good.csv --group Q(3) --rep-in Vector --rep-out Scalar": "unknown group 'Q'; known are Trivial, Z, S, D, SO",
    'fit good.csv --group "O(3" --rep-in Vector --rep-out Scalar': "cannot read this group: expected ')' here",
    'fit good.csv --group "O(3)" --rep-in Vektor --rep-out Scalar': "unknown representation 'Vektor'; known are Scalar",
    'fit good.csv --group "O(3)" --rep-in 2*Vector --rep-out Scalar': "--x gives 3 number(s) a row, but --rep-in",
    'fit good.csv --group "O(3)" --rep-in Vector --rep-out Vector': "--y gives 1 number(s) a row, but --rep-out",
    "fit good.csv --engine nuts": "invalid choice: 'nuts' (choose from",
    "fit good.csv --engine hmc --draws 0": "error: --draws must be an integer of at least 1, got 0",
    "fit good.csv --likelihood bernoulli": "invalid choice: 'bernoulli'",
    "fit good.csv --likelihood poisson": "needs counts 0, 1, 2, ... as y, got ",
    "fit good.csv --likelihood poisson --noise-variance 1": "--noise-variance is for --likelihood gaussian",
    "fit good.csv --likelihood categorical": "60 different labels in 60 rows",
    "fit good.csv --epochs 0": "error: --epochs must be an integer of at least 1, got 0",
    "fit good.csv --epochs ten": "invalid int value: 'ten'",
    "fit good.csv --lr nan": "error: --lr must be positive and finite, got nan",
    "fit good.csv --batch-size 0": "error: --batch-size must be",
    "fit good.csv --noise-variance -1": "error: --noise-variance must be",
    "fit good.csv --engine laplace --draws 1.5": "invalid int value: '1.5'",
    "fit good.csv --layers -1": "error: --layers must not be negative",
    "fit good.csv --members -1": "error: --members must be an integer of at least 1, got -1",
    "fit good.csv --channels 0": "error: --channels must be a positive integer, got 0",
    "fit good.csv --dense-variance 0": "error: --dense-variance must be positive and finite, got 0.0",
    "fit good.csv --device cudaa": "error: --device must be one that this machine and this torch have",
    "fit good.csv --seed 1.5": "must be an integer from -2**63 to 2**64 - 1, got '1.5'",
    "fit good.csv --test-fraction 1": "--test-fraction must lie between 0 and 1, got 1.0",
    "fit good.csv --test nowhere.csv": "there is no data file nowhere.csv",
    "fit good.csv --resume": "--resume goes on with an unfinished run in new, but there is none",
    "fit good.csv --out run": "run holds a finished run: give another --out, or --force to replace it",
    "fit good.csv --out good.csv": "good.csv is a file, not a folder",
    "fit numbers.csv": "holds numbers, 0.1, 0.2: put a line above it that names the columns",
    "fit comment.csv": "begins with '# made by hand': remove what is above the columns' names",
    "fit sep.csv": "begins with 'sep=': remove what is above the columns' names",
    "fit empty.csv": "empty.csv is empty; its first line must name the columns",
    "fit head.csv": "head.csv names 2 columns but has 0 rows",
    "fit short.csv": "line 3 of short.csv has 1 field(s), but the header names 2 columns",
    "fit quote.csv": "a quote that does not close",
    "fit twice.csv": "names the column 'x1' more than once",
    "fit gap.csv": "line 3 of gap.csv, column 'x1', is empty, which is no number. 1 of 3 rows have gaps",
    "fit text.csv": "holds text, 2 different: blue, red. For labels give --likelihood categorical",
    "fit few.csv": "2 different whole numbers in 60 rows: 0, 1. For labels give --likelihood categorical",
    "fit unit.csv": "holds numbers with a sign or a unit, as '10%': write them alone",
    "fit mixed.csv": "mixes decimal points and commas, or has underscores",
    "fit constant.csv": "every row of constant.csv to train on has the same y",
    "fit gap.npz": "first in row 3 of x[1]. 1 of 60 rows have gaps: fill them, or leave them out with",
    "fit labels.npz": "For labels give --likelihood categorical",
    "fit labels.npz --x q": "labels.npz has no array 'q' (from --x); its arrays are x, y",
    "fit binary.csv": "binary.csv is no text file",
    "predict run good.csv": "the following arguments are required: --out",
    "predict run nowhere.csv --out p.csv": "there is no data file nowhere.csv",
    "predict run text.csv --out p.csv": "has no column 'x2', an input of the run; its columns are x1, y1",
    "predict run gap.npz --out p.csv": "fitted to columns of a table, such as 'x1', and gap.npz holds arrays",
    "predict run good.csv --out p.txt": "--out must be a .csv file",
    "predict run good.csv --out good.csv": "is the table itself, which would be lost",
    "predict run good.csv --out p.csv --probability 90": "--probability must lie between 0 and 1, got 90",
    "predict nowhere good.csv --out p.csv": "there is no run folder nowhere",
    "predict . good.csv --out p.csv": "give one of the runs in it: other, run",
    "report good.csv": "good.csv is a file; give the folder of a run",
    "report empty": "empty is not the folder of a run, and holds no saved posterior; give the one that `fit --out`",
    "verify good.csv": "a table needs --group, --rep-in and --rep-out",
    f"verify run {GROUP}": "a run has a group and representations: give them with a table only",
    "compare good.csv": "a table needs --groups to compare",
    "compare good.csv --groups none": "--groups takes two or more, the largest first",
    "compare run": "compare takes two runs or more",
    "compare good.csv --groups 'O(3)' none --rep-in Vector --rep-out Scalar --likelihood poisson": (
        "compare takes --likelihood gaussian or categorical, got poisson"
    ),
    "compare run run": "compare takes different runs, and one is named twice",
    "fit good.csv --network emlp": "--network emlp is equivariant exactly, and needs --group",
    "compare run nowhere": "there is no table or run nowhere",
    "compare run other": "other and run were judged by different rows",
}


def written(path, rows, names=NAMES):
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("wrong")
    x = np.random.default_rng(0).normal(size=(60, 3))
    y = x @ [[1.0], [2.0], [3.0]]
    written(path / "good.csv", np.hstack([x, y]))
    written(path / "few.csv", np.hstack([x, y > 0]).astype(float))
    written(path / "constant.csv", np.hstack([x, 0 * y]))
    written(path / "comma.csv", x, ("x, first", "x2", "y1"))
    texts = {
        "numbers.csv": "0.1,0.2\n0.3,0.4\n",
        "comment.csv": "# made by hand\nx1,y1\n1,2\n",
        "sep.csv": "sep=;\nx1;y1\n1;2\n",
        "empty.csv": "",
        "head.csv": "x1,y1\n",
        "short.csv": "x1,y1\n1,2\n3\n",
        "quote.csv": 'x1,y1\n1,"2\n3,4\n',
        "twice.csv": "x1,x1,y1\n1,2,3\n",
        "gap.csv": "x1,y1\n1,2\n,3\n4,5\n",
        "text.csv": "x1,y1\n1,red\n2,blue\n3,red\n",
        "unit.csv": "x1,y1\n1,10%\n2,20%\n3,25%\n",
        "mixed.csv": "x1;y1\n1,5;2.5\n2,5;3.5\n",
        "good.xls": "",
    }
    for name, text in texts.items():
        (path / name).write_text(text)
    (path / "binary.csv").write_bytes(bytes(range(256)))
    gaps = x.copy()
    gaps[2, 1] = np.nan
    np.savez(path / "gap.npz", x=gaps, y=y)
    np.savez(path / "labels.npz", x=x, y=np.where(y[:, 0] > 0, "up", "down"))
    (path / "empty").mkdir()
    for name, seed in (("run", "0"), ("other", "1")):
        words = ["fit", str(path / "good.csv"), *TINY.split(), "--noise-variance", "1", "--seed", seed]
        assert cli.main([*words, "--out", str(path / name)]) == 0
    return path


def contents(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_wrong_commands_are_told_what_to_type(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = contents(folder)
    capsys.readouterr()
    for command, message in WRONG.items():
        words = shlex.split(command)
        if words[0] == "fit" and "--out" not in words:
            words += ["--out", "new"]
        try:
            status = cli.main(words)
        except SystemExit as end:  # of argparse
            status = end.code
        said = capsys.readouterr()
        assert (status, said.out) == (2, ""), command
        assert message in said.err, command
        assert "Traceback" not in said.err
        assert contents(folder) == before, command


def test_what_looks_wrong_and_is_not(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    for words in (
        ["comma.csv", "--x", '"x, first",x2', "--y", "y1"],
        ["gap.npz", "--drop-incomplete"],
        ["labels.npz", "--likelihood", "categorical"],
        ["good.csv", "--x", "x3,x1"],
    ):
        likelihood = [] if "categorical" in words else ["--noise-variance", "1"]
        assert cli.main(["fit", *words, *TINY.split(), *likelihood, "--out", str(tmp_path / words[0])]) == 0
