"""Words that the project no longer uses, and what to say instead, in every file that git tracks or would track."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = re.compile(r"tests/test_words\.py|requirements\.lock|tests/goldens[^/]*\.json|.*\.png")
PYTHON = r".*\.py"


class Entry(NamedTuple):
    """A word that must not come back."""

    key: str
    pattern: str  # ^ and $ are the ends of a line; \s and [^...] may reach over one
    instead: str
    bad: str  # a text that the pattern finds
    good: str  # a text like it that the pattern leaves alone
    files: str = ".*"  # of the paths to search


def class_name(name: str) -> str:
    """A class in code or backticks, not the same word at the beginning of a sentence, which goes on in lower case."""
    sentence = r"(?!:? (?!(?:as|if|else|for|from|in|is|and|or)\b)[a-z])"
    return rf"\b{name}\b{sentence}|(?<=[Rr]aises ){name}\b"


def phrase(words: str) -> str:
    """Words in a row, also where a line ends between them and the next begins with #, * or >."""
    gap = r"(?:\s|(?<=\n)[ \t]*[#*>])+"
    first, *rest = words.split()
    return rf"(?i:\b{first}{''.join(gap + re.escape(word) for word in rest)})\b"


ENTRIES = [
    Entry("seam", r"(?i:\bseams?\b)", "hook", "At this seam tricks act.", "A seamless texture."),
    Entry("Refused", class_name("Refused"), "ConfigError", "except Refused as error:", "* Refused with: `gp`."),
    Entry("Contradiction", class_name("Contradiction"), "ConfigErrors", "raise Contradiction(all)", "Contradictions."),
    Entry("Clash", class_name("Clash"), "IncompatibleParts", "with raises(Clash):", "Their names clash."),
    Entry(
        "Stage",
        r"\bStage[(\[\]]|\bstage=|\.stage\b|[:>] Stage\b|\bimport [^\n]*\bStage\b|^[ \t]+Stage,$|class Stage\b",
        "BatchShape, shape",
        "source.draw(Stage(8, 4))",
        "StackGAN's Stage I, a stage of the network.",
    ),
    Entry("gauges", r"(?i:\bgauges?\b)", "metrics", "Every trick's gauges.", "Every trick's metrics."),
    Entry("remarks", r"(?i:\bremarks\b)", "diagnostics", "def remarks(self):", "One remark."),
    Entry("spoils", r"(?i:\bspoils\b)", "invalidates", "A pool spoils this.", "A pool may spoil this."),
    Entry("spoiled", r"(?i:\bspoiled\b)", "invalidated", "The fact is spoiled.", "The fact is invalidated."),
    Entry("hands_on", r"\bhands_on\b", "a name that says that fakes are kept", "u.hands_on", "a hands-on guide"),
    Entry("takes_over", r"\btakes_over\b", "a name that says that fakes are reused", "u.takes_over", "G takes over."),
    Entry("handed_on", r"\b_?handed_on\b", "kept fakes", "self._handed_on = None", "what was handed on"),
    Entry("hand_on", r"\b_?hand_on\b", "reuse of fakes", "def _hand_on(updates):", "a hand on it"),
    Entry("opinion", r"(?i:\bopinions?\b)", "output, prediction", "D's opinion of images.", "D's output for images."),
    Entry("on board", phrase("on board"), "included, bundled", "1,000 modes, on board.", "An onboard graphics chip."),
    Entry("so many", phrase("so many"), "a number: every N steps", "every so many\n    # steps", "so, many steps"),
    Entry("for ever", phrase("for ever"), "permanently, without bound", "It stays so for ever.", "Forever, for every."),
    Entry("Company", r"\bCompany\b", "CompatibilityChecker", "checker = Company()", "In the company of others."),
    Entry("Host", r"\bHost\(", "BaseConfiguration", "host = Host(model, 32)", "Host (the machine) or VirtualHost(x)"),
    Entry("companions", r"(?i:\bcompanions\b)", "required tricks", "host.companions", "A companion paper."),
    Entry("study", r"\bstudy\(|\bTrick\.study\b|`study`", "on_data", "trick.study(pair)", "An ablation study (2020)."),
    Entry(
        "sweeps",
        r"\.sweeps\(|\bdef sweeps\b|\bTrick\.sweeps\b",
        "traversals",
        "trick.sweeps(noise)",
        "Hydra's sweeps go to sweeps/.",
    ),
    Entry("answer", r"\.answer\(|\bdef answer\b", "probability", "loss.answer(x)", "the answer (yes)", r"ganrun/.*"),
    Entry(
        "claims",
        r"\bclaims=|\.claims\b|\bclaims: (?:frozenset|set|tuple|list)\b",
        "sets",
        "Traits(claims=keys(1))",
        "The paper claims: a set of three.",
    ),
    Entry(
        "told",
        r"\bdef told\b|^[ \t]*(?:from \S+ )?import [^\n]*\btold\b",
        "a name that says what the function returns",
        "from ganrun.x import a, told",
        "when it is told nothing",
        PYTHON,
    ),
    Entry(
        "said",
        r"\bdef said\b|^[ \t]*(?:from \S+ )?import [^\n]*\bsaid\b",
        "recorded, or a name that says what the function returns",
        "def said(found):",
        "as was said above",
        PYTHON,
    ),
    Entry(
        "figures",
        r"\.figures\(|\bdef figures\(self\b|`figures`",
        "log_metrics",
        "def figures(self, pair):",
        "def figures(net: Net):",
    ),
    Entry(
        "measures",
        r"\.measures\b|\bmeasures =|\bmeasures: ?(?:dict|[Mm]apping|Measures|Metrics|Any|list|tuple)\b|^\s*measures:$",
        "metrics",
        "measures: dict[str, Tensor]",
        "what StudioGAN measures: the distance",
    ),
    Entry("Measures", class_name("Measures"), "Metrics", "def write(m: Measures) -> None:", "Measures of samples."),
    Entry(
        "nothing here is that", phrase("nothing here is that"), "no part provides it", "nothing here is that", "that"
    ),
    Entry(
        "falls for ever",
        phrase("falls for ever"),
        "decreases without bound",
        "or its loss falls for ever",
        "or its loss falls without bound",
    ),
    Entry(
        "the same run the same",
        phrase("the same run the same"),
        "what does not change the results",
        "What leaves the same run the same.",
        "the same run with the same seed",
    ),
    Entry(
        "to be told again",
        phrase("to be told again"),
        "permission for this run",
        "expected to be told again that this may run",
        "expected to be told once",
    ),
    Entry("is no news", phrase("is no news"), "follows from that, is already reported", "that is no news", "no news"),
    Entry(
        "first without company",
        phrase("first without company"),
        "the one without required tricks first",
        "first without company, if it can",
        "first without a trick",
    ),
    Entry("without a word", phrase("without a word"), "silently, without a message", "ended without a word", "a word"),
    Entry(
        "to be told which",
        phrase("to be told which"),
        "the name of one of them",
        'expected "to be told which it is"',
        "which it is",
    ),
    Entry(
        "What the data are taken to be",
        phrase("What the data are taken to be"),
        "preprocess the real images",
        '"""What the data are taken\n    to be, where',
        "what the data are",
    ),
    Entry(
        "What D answers about the class",
        phrase("What D answers about the class"),
        "the discriminator's score for a class",
        "What D answers about the class that",
        "D's score for the class",
    ),
    Entry(
        "for so many steps at first",
        phrase("for so many steps at first"),
        "for the first N steps",
        "0  # for so many steps at first, hold",
        "for the first 100 steps",
    ),
    Entry(
        "player moves",
        r"(?i:\bplayers? moves?\b)",
        "is updated, trains",
        "when a player moves",
        "p then moves on, the player is updated",
    ),
    Entry("D moves", r"\bD moves\b", "D is updated, D trains", "# D moves, then G.", "D's mean moves on."),
    Entry("G moves", r"\bG moves\b", "G is updated, G trains", "G moves ten times", "G's mean moves on."),
    Entry("who moves", phrase("who moves"), "which network is updated", "who moves when", "which moves on"),
    Entry(
        "may move",
        r"(?i:(?<!\bdata )\bmay move\b)",
        "may be updated",
        "a network that may move",
        "Data may move: what they hold is compared.",
    ),
    Entry("plays a", r"(?i:\bplays an?\b(?! (?:role|part)\b))", "trains, runs", "It plays a run.", "It replays a run."),
    Entry("who plays", phrase("who plays"), "which networks train", "A game says who plays.", "who trains"),
    Entry("is played", phrase("is played"), "runs, trains", "as it is played from the shell", "is displayed"),
    Entry("was played", phrase("was played"), "ran, trained", "a run that was played", "was displayed"),
    Entry("were played", phrase("were played"), "ran, trained", "runs that were played", "were replayed"),
    Entry("neither played", phrase("neither played"), "neither ran", "neither played nor refused", "neither replayed"),
]


@cache
def texts() -> dict[str, str]:
    """Every file to search, by path. What is not text is left out, and so is what was deleted but not yet committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for path in sorted({*listed.split("\0")} - {""}):
        if not LEFT_OUT.fullmatch(path) and (ROOT / path).is_file():
            try:
                found[path] = (ROOT / path).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found


def hits(entry: Entry, text: str) -> list[tuple[int, str]]:
    """Line number and line of every place where an entry's pattern is found."""
    lines = text.split("\n")
    starts = [match.start() for match in re.finditer(entry.pattern, text, re.MULTILINE)]
    numbers = sorted({text.count("\n", 0, start) for start in starts})
    return [(number + 1, lines[number].strip()) for number in numbers]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.key)
def test_old_words_are_gone(entry: Entry) -> None:
    found = [
        f"{path}:{line}: {text[:150]}"
        for path, content in texts().items()
        if re.fullmatch(entry.files, path)
        for line, text in hits(entry, content)
    ]
    assert not found, f"{len(found)} lines say {entry.key!r}; say instead: {entry.instead}\n" + "\n".join(found)


# The list itself ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.key)
def test_each_pattern_finds_what_it_should(entry: Entry) -> None:
    assert hits(entry, entry.bad), f"{entry.pattern} does not find {entry.bad!r}"
    assert not hits(entry, entry.good), f"{entry.pattern} finds {entry.good!r}"
    assert not hits(entry, entry.instead), f"{entry.pattern} finds what to say instead"


def test_keys_are_unique() -> None:
    assert len({entry.key for entry in ENTRIES}) == len(ENTRIES)


def test_the_search_sees_the_repository() -> None:
    paths = set(texts())
    assert {"README.md", "pyproject.toml", "ganrun/core/trick.py", "conf/config.yaml", "docs/tricks.md"} <= paths
    assert len(paths) > 300
    assert not [path for path in paths if LEFT_OUT.fullmatch(path)]


def test_hits_name_the_line() -> None:
    entry = Entry("x", phrase("so many"), "", "", "")
    assert hits(entry, "a\nb so\n  # many c\n  So many") == [(2, "b so"), (4, "So many")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("raise Old(x)", True),
        ("except Old as error:", True),
        ("except Old:", True),
        ("from a import B, Old", True),
        ("x: Old | None", True),
        ("`errors.Old`", True),
        ("Raises Old when", True),
        ("Old with: this", False),
        ("Old: this", False),
        ("Old ways", False),
        ("Older(x)", False),
    ],
)
def test_class_names_are_told_from_sentences(text: str, found: bool) -> None:
    assert bool(re.search(class_name("Old"), text)) == found
