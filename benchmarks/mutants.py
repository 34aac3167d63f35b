"""Faults put into the code on purpose, and how many of them the tests notice.

    python -m benchmarks.mutants draw                      draw 200 mutants of losses/, engine/ and ops/ with a seed
    python -m benchmarks.mutants run [--minutes 60]        run the tests of each that has no row yet in this column
        --column before|after                              before: tests that mirror the module; after: those, then all others
        --workers 2
    python -m benchmarks.mutants show                      print the table

A mutant is a statement with one operator, constant or name changed. It is known by its statement, not by its line, so that it
is found again after code has moved. Where a statement was written anew, the row says under `now` what the same change of it
is; one whose statement is gone counts as such. Mutants that lived before are not run after. Rows go to benchmarks/results/mutants.json,
each as soon as it is known, so that a run that is cut goes on where it stopped.
"""

import argparse
import ast
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import machine
from tumorseg.schema.base import json_text

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "mutants.json"
ROOMS = ("losses", "engine", "ops")
SEED, COUNT = 13, 200
MOST_SECONDS = 240
"""A test run that takes longer has died of its mutant: it hangs."""
MOST_BYTES = 8 * 2**30
"""Memory of a test run: a mutant that asks for more dies of it, and of nothing else on the machine."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin", "floor": "ceil"}


class Mutant(NamedTuple):
    """One change of one statement."""

    file: str
    """Where it was drawn."""
    function: str
    """Dotted name of what the statement stands in."""
    statement: str
    """Its text, as Python writes it."""
    node: int
    """Number of the changed node in a walk over the statement."""
    change: str
    """What became of it, for a reader."""


class Place(NamedTuple):
    """A statement in a file."""

    path: Path
    function: str
    statement: ast.stmt
    module: ast.Module


def statements(path: Path) -> Iterator[Place]:
    """Yield the simple statements of functions in a file, and its constants."""
    module = ast.parse(path.read_text())

    def visit(node: ast.AST, name: str) -> Iterator[Place]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                yield from visit(child, f"{name}.{child.name}".lstrip("."))
                continue
            if isinstance(child, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.Assert) and not is_text(
                child
            ):
                yield Place(path, name, child, module)
            yield from visit(child, name)

    yield from visit(module, "")


def is_text(statement: ast.stmt) -> bool:
    """Tell whether a statement is a docstring."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def changes(node: ast.AST) -> str | None:
    """Change a node in place and return in words what was done; None, and the node as it was, where nothing can be."""
    before = ast.unparse(node) if isinstance(node, ast.expr) else ""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        node.value = node.value + 1
    elif isinstance(node, ast.Name) and node.id in NAMES:
        node.id = NAMES[node.id]
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        node.attr = NAMES[node.attr]
    else:
        return None
    return f"{before} -> {ast.unparse(node)}"


def draw() -> list[Mutant]:
    """Return `COUNT` mutants of `ROOMS`, at most one of a statement, the same for the same code and seed."""
    found = []
    rng = random.Random(SEED)
    for room in ROOMS:
        for path in sorted((ROOT / "tumorseg" / room).rglob("*.py")):
            for place in statements(path):
                text = ast.unparse(place.statement)
                numbers = list(range(len(list(ast.walk(place.statement)))))
                rng.shuffle(numbers)
                for number in numbers:
                    changed = ast.parse(text).body[0]
                    if change := changes(list(ast.walk(changed))[number]):
                        found.append(Mutant(str(path.relative_to(ROOT)), place.function, text, number, change))
                        break
    return sorted(rng.sample(found, min(COUNT, len(found))))


def find(mutant: Mutant, tree: Path) -> Place | None:
    """Return where a mutant's statement stands in a tree: in its own file, or where it was moved; None if it is gone."""
    own = tree / mutant.file
    others = sorted((tree / "tumorseg").rglob("*.py"))
    paths = [own, *others] if own.is_file() else others
    last = mutant.function.rpartition(".")[2]
    for is_same_function in (True, False):
        for path in paths:
            if mutant.statement.split("\n")[0][:20] not in path.read_text() and is_same_function is False:
                continue
            for place in statements(path):
                names_agree = place.function.rpartition(".")[2] == last
                if ast.unparse(place.statement) == mutant.statement and (names_agree or not is_same_function):
                    return place
    return None


def mirrored_tests(path: Path, tree: Path) -> list[str]:
    """Return the test files that mirror a module: called like it, or in the same folder and importing it."""
    module = ".".join(path.relative_to(tree).with_suffix("").parts)
    folder = tree / "tests" / path.relative_to(tree / "tumorseg").parent
    files = sorted(folder.glob("test_*.py"))
    named = [file for file in files if file.stem == f"test_{path.stem}"]
    others = [file for file in files if file not in named and module in file.read_text()]
    return [str(file.relative_to(tree)) for file in (*named, *others)] or [str(folder.relative_to(tree))]


def fate(mutant: Mutant, tree: Path, column: str) -> str:
    """Return `died`, `lived` or `gone`, and leave the tree as it was."""
    place = find(mutant, tree)
    if place is None:
        return "gone"
    nodes = list(ast.walk(place.statement))
    before = place.path.read_text()
    if changes(nodes[mutant.node]) is None:
        return "gone"
    try:
        place.path.write_text(ast.unparse(ast.fix_missing_locations(place.module)))
        if not passes(tree, mirrored_tests(place.path, tree)):
            return "died"
        return "lived" if column == "before" or passes(tree, ["tests"]) else "died"
    finally:
        place.path.write_text(before)


def passes(tree: Path, tests: list[str]) -> bool:
    """Run tests of the default run in a tree; False at the first that fails, or if they take too long."""
    marks = "not slow and not long and not gpu and not real"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", marks, *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    limit = MOST_SECONDS if tests != ["tests"] else 10 * MOST_SECONDS
    with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as test:
        resource.prlimit(test.pid, resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
        try:
            told, _ = test.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            test.kill()
            return False
    # Below 0: a signal ended it, for want of memory mostly.
    if test.returncode not in (0, 1, 2, 5) and test.returncode > 0:
        raise SystemExit(f"pytest ended with {test.returncode}: {told.decode()[-500:]}")
    return test.returncode in (0, 5)


def tree_copies(parent: str, num_workers: int) -> list[Path]:
    """Return copies of the tracked files, one for each worker."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    copies = [Path(parent) / str(number) for number in range(num_workers)]
    for copy in copies:
        for name in filter(None, listed):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copies


def read_rows() -> dict[str, Any]:
    """Return what is known so far."""
    known: dict[str, Any] = json.loads(RESULT.read_text())
    return known


def run(column: str, minutes: float, num_workers: int) -> None:
    """Fill a column, row by row, until all are known or the time is up."""
    known = read_rows()
    ends = time.monotonic() + 60 * minutes
    known.setdefault("machines", {})[column] = machine()
    with tempfile.TemporaryDirectory() as parent:
        trees = tree_copies(parent, num_workers)

        def work(number: int) -> None:
            for row in known["mutants"][number::num_workers]:
                is_asked = column == "before" or row.get("before") == "died"
                if column in row or not is_asked or time.monotonic() > ends:
                    continue
                told = row.get("now", row) if column == "after" else row
                mutant = Mutant(*(told[name] for name in Mutant._fields))
                row[column] = fate(mutant, trees[number], column)
                RESULT.write_text(json_text(known))

        with ThreadPoolExecutor(num_workers) as pool:
            list(pool.map(work, range(num_workers)))
    show(known)


def show(known: dict[str, Any]) -> None:
    """Print how many died, by room, and those that live now though they died before."""
    for column in ("before", "after"):
        fates = [row[column] for row in known["mutants"] if column in row]
        counts = {name: fates.count(name) for name in ("died", "lived", "gone")}
        sys.stdout.write(f"{column}: {counts} of {len(known['mutants'])}\n")
    for row in known["mutants"]:
        if row.get("before") == "died" and row.get("after") == "lived":
            sys.stdout.write(f"lives now: {row['file']} {row['function']}: {row['change']}\n")


def main() -> None:
    """Draw, run or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("draw", "run", "show"))
    parser.add_argument("--column", choices=("before", "after"), default="before")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.verb == "draw":
        RESULT.write_text(json_text({"seed": SEED, "mutants": [mutant._asdict() for mutant in draw()]}))
    elif arguments.verb == "run":
        run(arguments.column, arguments.minutes, arguments.workers)
    else:
        show(read_rows())


if __name__ == "__main__":
    main()
