"""YAML as plain data, with the line of every key. YAML 1.2: ``no`` is text, ``989e12`` a number."""

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from experiments.study.errors import Problem, StudyError, show
from model.dataclass import dataclass
from model.text_file import DEEPEST, MOST_VALUES, TOO_DEEP, TOO_MANY

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys of mappings and indices of lists."""

_PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")


_SPACES = "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000"
"""Spaces of web pages and word processors, with which nothing is indented."""
_LARGEST = 2**63 - 1
"""Whole numbers are of 64 bits, as they are in every table that results from them."""


@dataclass(slots=True)
class Document:
    """The content of one YAML text; ``lines`` counts from 1, and is 0 where there is no text."""

    label: str
    data: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    """Duplicate keys and tags, which make a file invalid but readable to its end."""
    values: int = 0
    """How many there are, each alias counted with all that it stands for."""

    def where(self, path: Path) -> str:
        """Return ``label:line`` of the deepest part of ``path`` that the text holds."""
        for length in range(len(path), 0, -1):
            if line := self.lines.get(path[:length]):
                return f"{self.label}:{line}"
        return self.label


def document_of(data: Mapping[str, Any], label: str) -> Document:
    """Return what a program made in the shape of a text that was read: every key is there."""
    found = plain(data)
    return Document(label, found, dict.fromkeys(_paths(found, ()), 0))


_LEAVES = frozenset((str, int, float, bool, type(None)))


def plain(value: Any, depth: int = 0) -> Any:
    """Return what a program hands over as a file would have it: numbers and arrays of numpy,
    columns of pandas, tuples and ranges as numbers and lists.

    Raises:
        StudyError: nested too deeply, perhaps in itself.
    """
    if depth > DEEPEST:
        raise StudyError.of(TOO_DEEP)
    if type(value) in _LEAVES:  # as most are: every point of a sweep is a copy
        return value
    if isinstance(value, Mapping):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item, depth + 1) for item in value]
    return plain(value.tolist(), depth + 1) if hasattr(value, "tolist") else value


def _paths(value: object, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield (*path, key)
            yield from _paths(below, (*path, key))
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield (*path, place)
            yield from _paths(below, (*path, place))


def parse_yaml(text: str, label: str) -> Document:
    """Read one YAML document.

    Raises:
        StudyError: the text is not YAML; the message names the line.
    """
    yaml = YAML(typ="safe", pure=True)
    document = Document(label)
    try:
        root = yaml.compose(text)
        if root is not None:
            document.data = _plain(root, (), document, yaml, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise StudyError.of(f"not valid YAML: {_said(error, text)}", label + line) from None
    except RecursionError:
        raise StudyError.of(f"not valid YAML: {TOO_DEEP}", label) from None
    except (YAMLError, ValueError) as error:
        if isinstance(error, StudyError):
            raise
        what = str(error).splitlines()[0] if str(error) else "unreadable"
        raise StudyError.of(f"not valid YAML: {what}", label) from None
    return document


def _said(error: MarkedYAMLError, text: str) -> str:
    """What a reader of YAML complains about, in words of people who write it."""
    what = error.problem or error.context or "unreadable"
    if "\\t" in what:
        return "a tab, expected spaces"
    strange = next((place for place, sign in enumerate(text) if sign in _SPACES), None)
    if strange is not None:
        at = text.count("\n", 0, strange) + 1
        sign = f"U+{ord(text[strange]):04X}"
        return f"line {at} has a space of another kind ({sign}), expected plain ones"
    if "another document" in what:
        return "a second document begins here, expected one study in a file"
    if "<block end>" in what:
        return "this line is indented otherwise than those before it"
    return what


def _plain(
    node: Node, path: Path, document: Document, yaml: YAML, open_nodes: tuple[Node, ...]
) -> Any:
    """Turn a node into dicts, lists and scalars, noting lines, duplicates and tags on the way."""
    line = node.start_mark.line + 1
    document.lines.setdefault(path, line)
    if any(node is parent for parent in open_nodes):
        raise StudyError.of("an alias (*) inside its own anchor (&)", f"{document.label}:{line}")
    document.values += 1
    if document.values > MOST_VALUES or len(path) > DEEPEST:
        fault = TOO_MANY if document.values > MOST_VALUES else TOO_DEEP
        raise StudyError.of(fault, f"{document.label}:{line}")
    inside = (*open_nodes, node)
    if isinstance(node, MappingNode):
        return _mapping(node, path, document, yaml, inside)
    if isinstance(node, SequenceNode):
        return [
            _plain(child, (*path, index), document, yaml, inside)
            for index, child in enumerate(node.value)
        ]
    tag = str(node.tag)
    if tag in _PLAIN_TAGS:
        return _within_64_bits(yaml.constructor.construct_object(node), node, line, document)
    if tag not in _TEXT_TAGS:
        document.problems.append(
            Problem(f"{document.label}:{line}", f"tag {tag} is not allowed, expected plain values")
        )
    return _text(node, document)


def _text(node: Node, document: Document) -> str:
    """The characters of a scalar: JSON writes those beyond 16 bits as two escapes."""
    text = str(node.value)
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        where = f"{document.label}:{node.start_mark.line + 1}"
        document.problems.append(Problem(where, f"{show(text)} holds half a character"))
        return text.encode("utf-8", "replace").decode()


def _within_64_bits(value: Any, node: Node, line: int, document: Document) -> Any:
    if isinstance(value, int) and abs(value) > _LARGEST:
        text = f"{show(node.value)} is too large for a whole number, expected at most {_LARGEST}"
        document.problems.append(Problem(f"{document.label}:{line}", text))
        return _LARGEST
    return value


def _mapping(
    node: MappingNode, path: Path, document: Document, yaml: YAML, inside: tuple[Node, ...]
) -> dict[str, object]:
    content: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        where = f"{document.label}:{line}"
        if not isinstance(key_node, ScalarNode):
            document.problems.append(Problem(where, "a key must be a single word"))
            continue
        key = _text(key_node, document)
        here = (*path, key)
        if key == "<<" and key_node.style is None:
            text = "<<: merged keys are of YAML 1.1 and not read, expected the keys themselves"
            raise StudyError.of(text, where)
        if key in content:
            dotted = ".".join(str(part) for part in here)
            value = value_node.value if isinstance(value_node, ScalarNode) else "..."
            document.problems.append(
                Problem(
                    where,
                    f"{dotted} = {show(value)}: duplicate key, "
                    f"first given on line {document.lines[here]}",
                )
            )
            continue
        document.lines[here] = line
        content[key] = _plain(value_node, here, document, yaml, inside)
    return content
