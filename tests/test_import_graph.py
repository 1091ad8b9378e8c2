"""The house: imports run downwards, without circles; folders and files stay small enough to be read."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("bayes_rpp", "inference", "analysis")  # each may import those before it
MOST_FILES, MOST_LINES = 14, 300


def modules(root):
    """Module name -> file, of the packages."""
    files = [path for floor in FLOORS for path in sorted((root / floor).rglob("*.py"))]
    return {".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


def imports(name, path, known):
    """The modules that a file names in its imports, those inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in named:
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target and target != name:
                yield target


def import_graph(root):
    """File -> files and folder -> folders; of packages' __init__ only what they import counts, not who imports them."""
    known = modules(root)
    files = {name: set(imports(name, path, known)) for name, path in known.items()}
    leaves = {name for name, path in known.items() if path.name != "__init__.py"}
    folders = defaultdict(set)
    for name in leaves:
        here = known[name].parent
        for target in files[name] & leaves:
            there = known[target].parent
            if not (here.is_relative_to(there) or there.is_relative_to(here)):
                folders[str(here.relative_to(root))].add(str(there.relative_to(root)))
    return files, {name: files[name] & leaves for name in leaves}, folders


def circle(graph):
    """One circle of a graph, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def upward(files):
    """The imports from a floor above."""

    def floor(name):
        return FLOORS.index(name.partition(".")[0])

    return [f"{name} -> {target}" for name in files for target in files[name] if floor(target) > floor(name)]


def test_imports_run_downwards_without_circles():
    files, leaves, folders = import_graph(ROOT)
    assert len(leaves) > 100
    assert upward(files) == []
    assert circle(leaves) is None
    assert circle(folders) is None


PLANTED = {
    "upward": {"bayes_rpp/a.py": "from inference.b import c", "inference/b.py": ""},
    "files": {"inference/a.py": "def f():\n    import inference.b", "inference/b.py": "import inference.a"},
    "folders": {
        "inference/x/a.py": "import inference.y.b",
        "inference/y/b.py": "",
        "inference/y/c.py": "import inference.x.d",
        "inference/x/d.py": "",
    },
}


@pytest.mark.parametrize(("found", "planted"), PLANTED.items())
def test_planted_circles_and_upward_imports_are_found(tmp_path, found, planted):
    for name, text in planted.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    files, leaves, folders = import_graph(tmp_path)
    problems = {"upward": bool(upward(files)), "files": bool(circle(leaves)), "folders": bool(circle(folders))}
    assert problems[found]
    assert sum(problems.values()) == 1


def test_folders_and_files_are_small():
    own = [*FLOORS, "tests", "examples"]
    sources = [path for folder in own for path in (ROOT / folder).rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): n for path in sources if (n := len(path.read_text().splitlines())) > MOST_LINES
    }
    counts = defaultdict(int)
    for path in sources:
        counts[str(path.parent.relative_to(ROOT))] += path.name != "__init__.py"
    assert long == {}
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}
