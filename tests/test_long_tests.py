"""The list of long tests names tests that exist, each once and in order."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_line_names_a_test():
    lines = (ROOT / "tests" / "long_tests.txt").read_text().splitlines()
    assert lines == sorted(set(lines))
    for line in lines:
        path, name = line.split("[")[0].split("::")
        functions = {node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")}
        assert name in functions, line
