"""Docstrings: every public name has one, with the shapes of tensors, the errors raised and the paper followed.

Each rule runs on every file of `ganrun/`: `pytest tests/test_docstrings.py -k ganrun/models` checks one folder.
Files are parsed, not imported.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "ganrun").rglob("*.py"))

LONGEST = 120  # characters of a first line
CONSTRUCTORS = ("__init__", "__post_init__")
QUIET_ERRORS = ("NotImplementedError", "StopIteration")  # these belong to a protocol and need no mention
RAISES = re.compile(r"\b([Rr]aises?|[Rr]efuses?)\b")
SOURCE = re.compile(r"(?<![\d.])(19\d\d|20[0-3]\d)(?!\d)|arXiv")  # not 2048, which is a size
BRACKETS = re.compile(r"(?<![=\w])\[([A-Za-z0-9_ ,*.+/()'-]*)\](?!\()")  # no setting, no index, no link
NUMBER = re.compile(r"\s*[+-]?[\d.]+\s*")
NOT_SHAPES = ("...", "low, high")

# Classes whose subclasses implement something that was published, and so name where.
PUBLISHED = (
    "ganrun.core.trick.Trick",
    "ganrun.core.loss.Loss",
    "ganrun.models.base.Generator",
    "ganrun.models.base.Discriminator",
)
WITHOUT_SOURCE = {
    "ganrun.core.trick.Setting": "has no method of its own: each YAML file that uses it names the paper",
    "ganrun.tricks.penalties.SlopePenalty": "is the common base of the gradient penalties, each with its own paper",
    "ganrun.tricks.penalties.TargetedPenalty": "is the common base of the penalties with a target slope",
    "ganrun.tricks.reparametrisation.Reparametrisation": "is the base of the norms on weights, each with its paper",
    "ganrun.tricks.initialisation.Initialisation": "is the common base of the initialisations, each with its own paper",
}


@dataclass
class Function:
    """A function or method as the rules see it. `docs` are its own docstring and the inherited ones, nearest first."""

    name: str  # Class.method
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: "Class | None"
    public: bool  # it and the classes around it
    docs: list[str] = field(default_factory=list)

    @property
    def doc(self) -> str:
        """What `inspect.getdoc` would show: its own docstring, else the nearest inherited one."""
        return self.docs[0] if self.docs else ""


@dataclass
class Class:
    """A class as the rules see it."""

    path: str
    name: str  # Outer.Inner
    node: ast.ClassDef
    public: bool
    bases: list[str]  # full names, as far as they could be resolved
    methods: dict[str, str] = field(default_factory=dict)  # name -> docstring, for those that have one

    @property
    def full_name(self) -> str:
        """Module and name."""
        return f"{module_name(self.path)}.{self.name}"


def module_name(path: str) -> str:
    """`ganrun/core/trick.py` -> `ganrun.core.trick`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def shapes(text: str) -> list[str]:
    """The shapes in brackets, such as [B, C, H, W] or []. Ranges of values such as [-1, 1] are none."""
    found = []
    for inside in BRACKETS.findall(text):
        items = [item.strip() for item in inside.split(",")]
        pair_of_numbers = len(items) == 2 and all(NUMBER.fullmatch(item) for item in items)
        negative = any(item.startswith("-") for item in items)
        if not (pair_of_numbers or negative or inside.strip() in NOT_SHAPES or inside.count("(") != inside.count(")")):
            found.append(f"[{inside}]")
    return found


def mentions_tensors(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether an annotation of a parameter or of the result contains the word Tensor."""
    a = node.args
    parameters = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    annotations = [node.returns, *(parameter.annotation for parameter in parameters)]
    return any(re.search(r"\bTensor\b", ast.unparse(annotation)) for annotation in annotations if annotation)


def raised(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The exception classes that the body raises itself, without those of functions and classes inside it."""
    found: list[str] = []
    queue: list[ast.AST] = list(node.body)
    while queue:
        part = queue.pop(0)
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(part, ast.Raise) and part.exc:
            branches = [part.exc.body, part.exc.orelse] if isinstance(part.exc, ast.IfExp) else [part.exc]
            for branch in branches:
                thrown = branch.func if isinstance(branch, ast.Call) else branch
                name = ast.unparse(thrown).rpartition(".")[2]
                if name[:1].isupper() and name not in QUIET_ERRORS:  # lower case: a variable that is raised again
                    found.append(name)
        queue.extend(ast.iter_child_nodes(part))
    return found


def is_public(name: str) -> bool:
    """Whether a name has no underscore in front."""
    return not name.startswith("_")


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, also those within `if`, `try` and `with`."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                yield from statements(getattr(statement, part, []))
        for handler in getattr(statement, "handlers", []):
            yield from statements(handler.body)


class Package:
    """Modules by path, with their classes linked to their base classes. `broken` are those that do not parse."""

    def __init__(self, sources: Mapping[str, str]):
        self.trees: dict[str, ast.Module] = {}
        self.broken: dict[str, SyntaxError] = {}
        for path, text in sources.items():
            try:
                self.trees[path] = ast.parse(text)
            except SyntaxError as error:
                self.broken[path] = error
        self.classes: dict[str, Class] = {}
        self.imports = {module_name(path): self._imports(tree) for path, tree in self.trees.items()}
        self.functions: dict[str, list[Function]] = {path: [] for path in self.trees}
        for path, tree in self.trees.items():
            self._read(path, tree.body, None)
        for function in [one for several in self.functions.values() for one in several]:
            function.docs = list(self._docs(function))

    @staticmethod
    def _imports(tree: ast.Module) -> dict[str, str]:
        """Local name -> full name, for everything imported at the top of a module."""
        names = {}
        for node in statements(tree.body):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
        return names

    def _read(self, path: str, body: list[ast.stmt], owner: Class | None) -> None:
        prefix = f"{owner.name}." if owner else ""
        around = owner.public if owner else True
        for node in statements(body):
            if isinstance(node, ast.ClassDef):
                bases = [self._full(path, base, owner) for base in node.bases]
                inner = Class(path, prefix + node.name, node, around and is_public(node.name), bases)
                self.classes[inner.full_name] = inner
                self._read(path, node.body, inner)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                function = Function(prefix + node.name, node, owner, around and is_public(node.name))
                self.functions[path].append(function)
                if owner and (doc := ast.get_docstring(node)):
                    owner.methods.setdefault(node.name, doc)

    def _full(self, path: str, base: ast.expr, owner: Class | None) -> str:
        """The full name of a base class, as the module's imports say."""
        text = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        first, dot, rest = text.partition(".")
        known = self.imports[module_name(path)].get(first)
        return f"{known}{dot}{rest}" if known else f"{module_name(path)}.{text}"

    def _find(self, full_name: str) -> Class | None:
        """A class by its full name, also through a module that only imports it."""
        for _ in range(5):
            if full_name in self.classes:
                return self.classes[full_name]
            module, _, name = full_name.rpartition(".")
            full_name = self.imports.get(module, {}).get(name, "")
        return None

    def ancestors(self, one: Class) -> list[Class]:
        """The base classes within the package, nearest first."""
        found: list[Class] = []
        queue = list(one.bases)
        while queue:
            base = self._find(queue.pop(0))
            if base and base is not one and base not in found:
                found.append(base)
                queue = [*base.bases, *queue]
        return found

    def _docs(self, function: Function) -> Iterator[str]:
        name, owner = function.node.name, function.owner
        if own := ast.get_docstring(function.node):
            yield own
        if owner:
            decorators = [ast.unparse(decorator) for decorator in function.node.decorator_list]
            if f"{name}.setter" in decorators or f"{name}.deleter" in decorators:
                yield from filter(None, [owner.methods.get(name)])  # the property's own
            for base in self.ancestors(owner):
                if doc := base.methods.get(name):
                    yield doc


# The rules. Each takes a package and the path of one of its modules, and returns the places that break it. -----------


def without_docstring(package: Package, path: str) -> list[str]:
    """Modules, public classes, functions and methods without a docstring."""
    found = [] if ast.get_docstring(package.trees[path]) else [f"{path}:1 (module)"]
    for one in package.classes.values():
        if one.path == path and one.public and not ast.get_docstring(one.node):
            found.append(f"{path}:{one.node.lineno} {one.name}")
    functions = [function for function in package.functions[path] if function.public and not function.docs]
    return found + [f"{path}:{function.node.lineno} {function.name}" for function in functions]


def without_shape(package: Package, path: str) -> list[str]:
    """Public functions and methods that take or return tensors and whose docstring states no shape."""
    return [
        f"{path}:{function.node.lineno} {function.name}"
        for function in package.functions[path]
        if (function.public or (function.node.name == "__call__" and function.owner and function.owner.public))
        and mentions_tensors(function.node)
        and not shapes(function.doc)
    ]


def without_raises(package: Package, path: str) -> list[str]:
    """Public functions and methods that raise an exception and whose docstring does not say so."""
    found = []
    for function in package.functions[path]:
        name, owner = function.node.name, function.owner
        text = function.doc
        if owner and owner.public and name in CONSTRUCTORS:
            text += "\n" + (ast.get_docstring(owner.node) or "")
        elif not (function.public or (owner and owner.public and name == "__call__")):
            continue
        if (errors := raised(function.node)) and not RAISES.search(text):
            found.append(f"{path}:{function.node.lineno} {function.name}: {', '.join(dict.fromkeys(errors))}")
    return found


def without_source(package: Package, path: str) -> list[str]:
    """Public tricks, losses and networks whose docstring, and whose module's, name no paper or year."""
    module = ast.get_docstring(package.trees[path]) or ""
    return [
        f"{path}:{one.node.lineno} {one.name}"
        for one in published(package)
        if one.path == path and not SOURCE.search(f"{ast.get_docstring(one.node) or ''}\n{module}")
    ]


def published(package: Package) -> list[Class]:
    """The public classes that must name a source."""
    found = []
    for one in package.classes.values():
        network = one.path.startswith("ganrun/models/") and one.name in ("Generator", "Discriminator")
        kin = any(base.full_name in PUBLISHED for base in package.ancestors(one))
        if one.public and (network or kin) and one.full_name not in (*PUBLISHED, *WITHOUT_SOURCE):
            found.append(one)
    return found


def with_poor_first_line(package: Package, path: str) -> list[str]:
    """Docstrings, private ones too, whose first line is too long, no full sentence, or begins badly."""
    found = []
    for node in ast.walk(package.trees[path]):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            name = "(module)" if isinstance(node, ast.Module) else node.name
            if doc and (fault := fault_of_first_line(doc)):
                found.append(f"{path}:{getattr(node, 'lineno', 1)} {name}: {fault}")
    return found


def fault_of_first_line(doc: str) -> str:
    """What is wrong with the first line of a docstring; empty when nothing is. Shapes may follow the full stop."""
    line = doc.splitlines()[0].rstrip()
    if len(line) > LONGEST:
        return f"longer than {LONGEST} characters"
    if line[:1].islower():
        return "begins with a lower-case letter"
    if line.startswith("This "):
        return 'begins with "This "'
    shapes = re.search(r"\.( Each| In)? \[", line)
    end = line[: shapes.start() + 1] if shapes else line
    return "" if end.endswith(".") else "does not end with a full stop"


RULES: dict[str, tuple[Callable[[Package, str], list[str]], str]] = {
    "docstring": (without_docstring, "have no docstring"),
    "shape": (without_shape, "take or return tensors, but state no shape such as [B, C, H, W] or []"),
    "raises": (without_raises, "raise an exception, but their docstring does not say `Raises` or `Refuses`"),
    "source": (without_source, "name no paper: a year or arXiv, in the docstring of the class or module"),
    "first_line": (with_poor_first_line, f"need a first line that is a sentence of at most {LONGEST} characters"),
}


@cache
def repository() -> Package:
    """All of ganrun. Read once, when the first test needs it."""
    return Package({path: (ROOT / path).read_text() for path in FILES})


def check(rule: str, path: str) -> None:
    """Fail with all places of one file that break a rule."""
    function, complaint = RULES[rule]
    package = repository()
    assert path not in package.broken, f"{path} cannot be parsed: {package.broken[path]}"
    found = function(package, path)
    assert not found, f"{len(found)} in {path} {complaint}:\n" + "\n".join(found)


@pytest.mark.parametrize("path", FILES)
def test_every_public_name_has_a_docstring(path: str) -> None:
    check("docstring", path)


@pytest.mark.parametrize("path", FILES)
def test_tensors_have_shapes(path: str) -> None:
    check("shape", path)


@pytest.mark.parametrize("path", FILES)
def test_exceptions_are_documented(path: str) -> None:
    check("raises", path)


@pytest.mark.parametrize("path", FILES)
def test_methods_name_their_source(path: str) -> None:
    check("source", path)


@pytest.mark.parametrize("path", FILES)
def test_first_lines_are_sentences(path: str) -> None:
    check("first_line", path)


# The rules themselves -------------------------------------------------------------------------------------------------


def test_the_rules_see_the_package() -> None:
    package = repository()
    functions = [function for several in package.functions.values() for function in several]
    assert len(FILES) > 100
    assert len([function for function in functions if function.public]) > 600
    assert len([function for function in functions if function.public and mentions_tensors(function.node)]) > 200
    assert len([function for function in functions if raised(function.node)]) > 50
    assert len(published(package)) > 60
    inherited = [function for function in functions if function.docs and not ast.get_docstring(function.node)]
    assert len(inherited) > 5


def test_a_broken_module_leaves_the_others_checked() -> None:
    package = Package({"ganrun/a.py": "def f(:", "ganrun/b.py": "x = 1"})
    assert list(package.broken) == ["ganrun/a.py"]
    assert without_docstring(package, "ganrun/b.py") == ["ganrun/b.py:1 (module)"]


def test_exceptions_to_the_source_rule_exist() -> None:
    """An entry whose class is gone, or which needs no exception, goes too."""
    package = repository()
    assert set(PUBLISHED) <= set(package.classes)
    for name in WITHOUT_SOURCE:
        assert any(base.full_name in PUBLISHED for base in package.ancestors(package.classes[name])), name


BASE = '''
"""A module."""

class Base:
    """A base."""

    def view(self, x: Tensor) -> Tensor:
        """Change images. [B, C, H, W]"""

    def check(self, n):
        """Raises ValueError."""

    def bare(self):
        pass
'''
TRICK = '"""A module."""\nclass Trick:\n    """A trick."""\n'
OTHERS = {"ganrun/base.py": BASE, "ganrun/core/trick.py": TRICK, "ganrun/tools.py": "from ganrun.base import Base"}


def names(rule: str, text: str, path: str = "ganrun/a.py") -> list[str]:
    """What one rule finds in a module of this text, as names only."""
    package = Package({**OTHERS, path: dedent(text)})
    return [place.split(" ", 1)[1].partition(":")[0] for place in RULES[rule][0](package, path)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"""A."""', []),
        ("x = 1", ["(module)"]),
        ('"""A."""\ndef f(): pass', ["f"]),
        ('"""A."""\nasync def f(): pass', ["f"]),
        ('"""A."""\nif x:\n    def f(): pass', ["f"]),
        ('"""A."""\ntry:\n    pass\nexcept E:\n    def f(): pass', ["f"]),
        ('"""A."""\ndef _f(): pass', []),
        ('"""A."""\ndef f():\n    """F."""\n    def g(): pass', []),
        ('"""A."""\nclass C: pass', ["C"]),
        ('"""A."""\nclass _C:\n    def f(self): pass', []),
        ('"""A."""\nclass C:\n    """C."""\n    def f(self): pass', ["C.f"]),
        ('"""A."""\nclass C:\n    """C."""\n    class D:\n        def f(self): pass', ["C.D", "C.D.f"]),
        ('"""A."""\nclass C:\n    """C."""\n    @property\n    def f(self): pass', ["C.f"]),
        ('"""A."""\nclass C(Protocol):\n    """C."""\n    def f(self): ...', ["C.f"]),
        ('"""A."""\n@overload\ndef f(x: int) -> int: ...\ndef f(x):\n    """F."""', ["f"]),
        ('"""A."""\nclass C:\n    """C."""\n    def __init__(self): pass\n    def __len__(self): pass', []),
        (
            '"""A."""\nclass C:\n    """C."""\n    @property\n    def f(self):\n        """F."""\n'
            "    @f.setter\n    def f(self, x): pass",
            [],
        ),
    ],
)
def test_docstring_rule(text: str, found: list[str]) -> None:
    assert sorted(names("docstring", text)) == sorted(found)


@pytest.mark.parametrize(
    ("imported", "base"),
    [
        ("from ganrun.base import Base", "Base"),
        ("from ganrun.base import Base as B", "B[int]"),
        ("from ganrun import base", "base.Base"),
        ("import ganrun.base", "ganrun.base.Base"),
        ("import ganrun.base as b", "b.Base"),
        ("from ganrun.tools import Base", "nn.Module, Base"),
    ],
)
def test_docstrings_are_inherited(imported: str, base: str) -> None:
    text = f'"""A."""\n{imported}\nclass Middle({base}):\n    """M."""\nclass C(Middle):\n    """C."""\n'
    methods = "    def view(self, x: Tensor): pass\n    def check(self, n): raise ValueError\n    def bare(self): pass"
    assert names("docstring", text + methods) == ["C.bare"]
    assert names("shape", text + methods) == []
    assert names("raises", text + methods) == []
    alone = (text + methods).replace(f"({base})", "")
    assert names("docstring", alone) == ["C.view", "C.check", "C.bare"]
    assert names("shape", alone) == ["C.view"]
    assert names("raises", alone) == ["C.check"]


def test_a_docstring_of_its_own_replaces_the_inherited_one() -> None:
    """As `help` shows it: what the base class says about shapes and errors is then not seen."""
    text = '"""A."""\nfrom ganrun.base import Base\nclass C(Base):\n    """C."""\n'
    text += '    def view(self, x: Tensor):\n        """Blur."""\n'
    text += '    def check(self, n):\n        """Check."""\n        raise E()'
    assert names("shape", text) == ["C.view"]
    assert names("raises", text) == ["C.check"]


@pytest.mark.parametrize(
    "text",
    ["[]", "[B]", "[B, C, H, W]", "x [N], y", "`a` [K, 2].", "[B, 2 * H]", "[3, 96, 96]", "[B, 1]", "[H / 2]",
     "[B, C', H', W']", "[...] and [B]", "[2 (H + 1), W]", "In [-1, 1]. [B]"],
)  # fmt: skip
def test_shapes(text: str) -> None:
    assert len(shapes(text)) == 1


@pytest.mark.parametrize(
    "text",
    ["", "B, C", "tricks=[a]", "[-1, 1]", "[0, 1]", "[0, 1)", "(0, 1]", "[0.5, 2.0]", "[-bound, bound]", "heads[name]",
     "[page](https://a.b)", '["class"]', "[low, high]", "[--config-dir FOLDER]", "[...]"],
)  # fmt: skip
def test_not_shapes(text: str) -> None:
    assert shapes(text) == []


@pytest.mark.parametrize(
    ("signature", "doc", "found"),
    [
        ("x: Tensor", "Blur.", True),
        ("x: Tensor", "Blur. [B]", False),
        ("x: Tensor", "Blur to values in [-1, 1].", True),
        ("x: Tensor", "Blur with tricks=[a].", True),
        ("x: Tensor | None", "Blur.", True),
        ("x: 'Tensor'", "Blur.", True),
        ("*, x: Mapping[str, torch.Tensor]", "Blur.", True),
        ("*x: Tensor", "Blur.", True),
        ("**x: Tensor", "Blur.", True),
        ("x: Tensor, /", "Blur.", True),
        ("x: TensorDataset", "Blur.", False),
        ("x", "Blur.", False),
        ("x) -> tuple[Tensor, int](", "Blur.", True),
    ],
)
def test_shape_rule(signature: str, doc: str, found: bool) -> None:
    head, _, rest = signature.partition(") ->")
    result = f" ->{rest[:-1]}" if rest else ""
    assert names("shape", f'def f({head}){result}:\n    """{doc}"""') == ["f"] * found
    assert names("shape", f'def _f({head}){result}:\n    """{doc}"""') == []
    call = f'class C:\n    def __call__(self, {head}){result}:\n        """{doc}"""'
    assert names("shape", call) == ["C.__call__"] * found


@pytest.mark.parametrize(
    ("body", "doc", "found"),
    [
        ("raise ValueError(x)", "Check.", True),
        ("raise ValueError", "Check.", True),
        ("raise errors.ConfigError(x) from e", "Check.", True),
        ("raise a if x else ValueError(x)", "Check.", True),
        ("if x:\n        raise ValueError(x)", "Check.", True),
        ("raise ValueError(x)", "Check. Raises ValueError.", False),
        ("raise ValueError(x)", "Refuse what is negative.", False),
        ("raise ValueError(x)", "Check who was praised.", True),
        ("raise", "Check.", False),
        ("raise error", "Check.", False),
        ("raise error.at(x) from error", "Check.", False),
        ("raise NotImplementedError", "Check.", False),
        ("raise StopIteration()", "Check.", False),
        ("def g():\n        raise ValueError", "Check.", False),
    ],
)
def test_raises_rule(body: str, doc: str, found: bool) -> None:
    assert names("raises", f'def f(x):\n    """{doc}"""\n    {body}') == ["f"] * found
    assert names("raises", f'def _f(x):\n    """{doc}"""\n    {body}') == []


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_class_may_say_what_its_constructor_raises(name: str) -> None:
    text = '"""A."""\nclass C:\n    """C.{0}"""\n    def {2}(self):\n        """I.{1}"""\n        raise ValueError'
    assert names("raises", text.format("", "", name)) == [f"C.{name}"]
    assert names("raises", text.format(" Raises.", "", name)) == []
    assert names("raises", text.format("", " Raises.", name)) == []


@pytest.mark.parametrize(
    ("module", "doc", "found"),
    [
        ("A.", "C.", True),
        ("A.", "C. Zhao et al. 2020.", False),
        ("A. arXiv 1706.08500", "C.", False),
        ("A. After 1998.", "C.", False),
        ("A.", "C of 2048 channels.", True),
        ("A.", "C of 12019 and 0.2019.", True),
    ],
)
def test_source_rule(module: str, doc: str, found: bool) -> None:
    trick = f'"""{module}"""\nfrom ganrun.core.trick import Trick\nclass C(Trick):\n    """{doc}"""'
    assert names("source", trick) == ["C"] * found
    assert names("source", trick.replace("(Trick)", "")) == []
    assert names("source", trick.replace("class C", "class _C")) == []
    network = f'"""{module}"""\nclass Generator(nn.Module):\n    """{doc}"""'
    assert names("source", network, "ganrun/models/a.py") == ["Generator"] * found
    assert names("source", network, "ganrun/data/a.py") == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("A sentence.", ""),
        ("`x` is a name.", ""),
        ("Blur images. Zhao et al. 2020.", ""),
        ("Blur images. [B, C, H, W]", ""),
        ("Split them. [B], [N]", ""),
        ("Compare them. [B] and [B] -> [K]", ""),
        ("Numbers. Each []", ""),
        ("a sentence.", "lower-case"),
        ("This is a sentence.", "This "),
        ("A sentence", "full stop"),
        ("A sentence:", "full stop"),
        ("Blur images [B, C, H, W]", "full stop"),
        ("A" * 119 + ".", ""),
        ("A" * 120 + ".", "longer"),
        ("A line that\n    goes on.", "full stop"),
    ],
)
def test_first_line_rule(line: str, fault: str) -> None:
    assert fault in fault_of_first_line(line)
    assert bool(fault) == bool(fault_of_first_line(line))
    assert names("first_line", f'def _f():\n    """{line}"""') == ["_f"] * bool(fault)
    assert names("first_line", f'"""{line}"""') == ["(module)"] * bool(fault)
