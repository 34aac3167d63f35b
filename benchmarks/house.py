"""How dense the code is: figures of the package's source, to hold against those of another commit.

python -m benchmarks.house [FOLDER ...]     folders with Python files; the package's own by default
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (*FUNCTIONS, ast.ClassDef, ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def measure(folder: Path) -> dict[str, float]:
    """Return the figures of all Python files below a folder, those "per 1,000 lines" among them."""
    counts: Counter[str] = Counter()
    lengths = []
    for file in sorted(folder.rglob("*.py")):
        text = file.read_text("utf-8")
        module = ast.parse(text)
        counts.update(files=1, lines=text.count("\n"), comments=len(list(_comments(text))))
        counts.update(_kinds(module))
        lengths += [node.end_lineno - node.lineno + 1 for node in ast.walk(module) if isinstance(node, FUNCTIONS)]
    thousands = counts["lines"] / 1000
    figures: dict[str, float] = {name: counts[name] for name in ("files", "lines", "statements")}
    figures["functions"], figures["median lines of a function"] = len(lengths), median(lengths)
    figures["functions over 50 lines"] = sum(length > 50 for length in lengths)
    for name in ("comprehensions", "nested comprehensions", "conditional expressions", "comments"):
        figures[f"{name} in 1,000 lines"] = round(counts[name] / thousands, 1)
    figures["statements of two conditional expressions"] = counts["two conditional expressions"]
    return figures


def _comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _kinds(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.stmt):
            yield "statements"
            if not isinstance(node, BLOCKS) and _count(node, ast.IfExp) > 1:
                yield "two conditional expressions"
        if isinstance(node, ast.IfExp):
            yield "conditional expressions"
        if isinstance(node, COMPREHENSIONS):
            yield "comprehensions"
            # Itself is one of those below it.
            if _count(node, COMPREHENSIONS) > 1 or len(node.generators) > 1:
                yield "nested comprehensions"


def _count(node: ast.AST, kinds: type[ast.AST] | tuple[type[ast.AST], ...]) -> int:
    return sum(isinstance(inner, kinds) for inner in ast.walk(node))


def main() -> None:
    """Print one column a folder."""
    folders = [Path(name) for name in sys.argv[1:]] or [Path(__file__).parents[1] / "tumorseg"]
    columns = [measure(folder) for folder in folders]
    for name in columns[0]:
        sys.stdout.write(f"{name:45}" + "".join(f"{column[name]:>10}" for column in columns) + "\n")


if __name__ == "__main__":
    main()
