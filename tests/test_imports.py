"""Who may import whom, read from the source: data flows forward only, and what starts fast imports nothing heavy."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("treebank", "structures", "methods", "parsing", "images", "graphs", "training", "evaluation")
PROBLEMS = {"parsing", "images", "graphs"}
# Parsing is trained by training/; the smaller problems keep their training beside them and use its loop.
# A package may import itself and these; errors and files are everybody's.
MAY_IMPORT = {
    "treebank": set(),
    "structures": set(),
    "methods": {"structures"},
    "parsing": {"methods", "structures", "treebank"},
    "images": {"methods", "structures", "training"},
    "graphs": {"methods", "structures", "training"},
    "training": {"parsing", "methods", "structures", "treebank", "evaluation"},
    "evaluation": {*PROBLEMS, "treebank", "structures"},
}
HEAVY = {"torch", "numba", "numpy", "scipy", "sklearn", "fasttext", "pydantic", "safetensors", "rich", "conllu"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a piece of code imports, except for type checking only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def top_names(tree: ast.AST) -> set[str]:
    """Return the first part of every imported name."""
    return {name.split(".")[0] for name in imports(tree)}


def at_the_top(tree: ast.Module) -> ast.Module:
    """Return the module without the bodies of functions, which run later if ever."""

    class Emptied(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

    emptied = Emptied().visit(tree)
    assert isinstance(emptied, ast.Module)
    return emptied


@pytest.mark.parametrize("package", [name for name in PACKAGES if (ROOT / "parser_vae" / name).is_dir()])
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / "parser_vae" / package).rglob("*.py"):
        for name in imports(ast.parse(path.read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] == "parser_vae" and len(parts) > 1 and parts[1] in (*PACKAGES, "cli"):
                allowed = MAY_IMPORT[package] | {package}
                assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_the_library_does_not_print_and_reads_no_environment() -> None:
    for path in (ROOT / "parser_vae").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"), path
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")), path


def test_no_pickle() -> None:
    for folder in ("parser_vae", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {
                name.split(".")[0] for name in imports(tree)
            }
            calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            assert not calls & {"torch.load", "torch.save"}, path


def test_treebanks_are_read_without_torch() -> None:
    for path in (ROOT / "parser_vae" / "treebank").glob("*.py"):
        assert "torch" not in {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}, (
            path
        )


def test_commands_import_nothing_heavy_before_they_run() -> None:
    for path in (ROOT / "cli").glob("*.py"):
        tree = at_the_top(ast.parse(path.read_text(encoding="utf-8")))
        assert not HEAVY & top_names(tree), path
