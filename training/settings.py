"""Settings from YAML: frozen dataclasses, read strictly.

A key that no field has is an error that lists the fields, a value of the wrong type one that says what was expected: an
option that has no effect must never pass in silence.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from ..search.typed import OneOf as OneOf

MAX_ENTRIES: Final = 100_000
"""Of a settings file, its aliases written out."""


COUNTS: Final = {"rounds": 1000, "worlds": 1000, "layers": 1000, "heads": 1000, "width": 65_536}
MOST_COUNT: Final = 100_000_000
"""The largest counts of a run, by name and of any other: a stage is planned for every round, whatever is finished."""

MOST_SEED: Final = 2**32 - 1
"""Of a training: transformers seeds NumPy's global generator, which takes no more."""

_NUMBERS: Final = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
}
"""What YAML 1.1 and people read as the same number."""

T = TypeVar("T")


class SettingsError(ValueError):
    """A settings file or override cannot be used; the message names the key, the value and the cure."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises :class:`SettingsError` where the file is missing, broken or no mapping."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, IsADirectoryError):
        raise SettingsError(f"no settings file {path}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise SettingsError(f"{path} holds {found}; expected 'key: value' lines")
    return data


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes the last of two equal keys in silence, made to refuse them; and numbers that it
    reads as nobody means them, 010 (octal) and 1:40 (base 60), are texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as in the class above)
        first: [(tag, _NUMBERS.get(tag, form)) for tag, form in known]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(str(key.value) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge")
        for key, times in keys.items():
            if times > 1:
                raise yaml.constructor.ConstructorError(None, None, f"names {key!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """The value that ``text`` holds, and None where it holds none. Raises :class:`SettingsError`, which begins with
    ``source``."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            entries = _entries(node, {})
            if entries > MAX_ENTRIES:
                raise SettingsError(
                    f"{source}: its aliases (*name) make more than {MAX_ENTRIES:,} entries of it, which is the limit; "
                    "write the settings out"
                )
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise SettingsError(f"{source} is not readable as YAML: brackets nested too deeply") from None
    except SettingsError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:  # ValueError: the date 2026-13-01, 5,000 digits
        raise SettingsError(f"{source} is not readable as YAML: {error}") from None


def _entries(node: yaml.Node | None, counted: dict[int, int]) -> int:
    """How many scalars, lists and mappings a document holds once its aliases are written out. An alias of what it is a
    part of has no end."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in counted:
        counted[id(node)] = MAX_ENTRIES + 1
        inside = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        counted[id(node)] = 1 + sum(_entries(part, counted) for part in inside)
    return counted[id(node)]


def override(data: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """``data`` with ``dotted.key=value`` assignments laid over it; values are read as YAML."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    for assignment in assignments:
        dotted, separator, value = assignment.partition("=")
        *path, last = keys = dotted.strip().split(".")
        if not separator or not all(keys):
            raise SettingsError(f"--set {assignment!r}: expected key=value, such as search.simulations=8")
        place = result
        for key, after in zip(path, keys[1:], strict=True):
            inner = place.get(key)
            another_rule = key == "selection" and not (isinstance(inner, dict) and after in inner)
            if inner == after or another_rule:
                inner = {}  # ``selection: puct`` is ``selection: {puct: {}}``; another rule begins with its defaults
            if not isinstance(inner, dict | None):
                raise SettingsError(f"--set {assignment!r}: {key}={inner!r} has no settings of its own")
            place[key] = dict(inner or {})
            place = place[key]
        place[last] = parse_yaml(value, f"--set {assignment!r}:")  # an empty value is None
    return result


def build(kind: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """``kind`` (a dataclass) from a mapping; nested dataclasses, tuples, literals and unions are checked."""
    annotations = typing.get_type_hints(kind, include_extras=True)
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            meant = _inside_a_choice(annotations, str(key), where) or (f"; did you mean {near[0]!r}?" if near else "")
            raise SettingsError(f"unknown setting {where}{key}{meant} (settings here: {', '.join(sorted(fields))})")
    values = {key: _value(annotations[key], value, f"{where}{key}") for key, value in data.items()}
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in values and _required(f)]  # type: ignore[arg-type]
    if missing:
        raise SettingsError(f"{where.rstrip('.') or kind.__name__}: no setting {', '.join(missing)}; add it")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        place = where.rstrip(".") or kind.__name__
        named = str(error).startswith((f"{place}.", f"{place}:"))
        raise SettingsError(f"{error}" if named else f"{place}: {error}") from None


def _inside_a_choice(annotations: Mapping[str, Any], key: str, where: str) -> str:
    """What was meant where ``key`` is no setting here, and one of some kinds of a setting that is a choice of one."""
    for name, annotation in annotations.items():
        if typing.get_origin(annotation) is typing.Annotated and isinstance(typing.get_args(annotation)[1], OneOf):
            kinds = typing.get_args(annotation)[1].kinds
            having = [kind for kind, its in kinds.items() if key in (f.name for f in dataclasses.fields(its))]
            if having:
                return f"; it is a setting of {where}{name}.{having[0]}" + "".join(f", .{kind}" for kind in having[1:])
    return ""


def build_from(path: Path, kind: type[T], data: Mapping[str, Any]) -> T:
    """As :func:`build`; errors begin with the file's path."""
    try:
        return build(kind, data)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def check_seed(seed: int) -> None:
    """Raises ``ValueError`` for a seed that some stage of a training could not take."""
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"seed={seed}; expected a whole number from 0 to {MOST_SEED}")


def check_counts(settings: Any, *names: str) -> None:
    """Raises ``ValueError`` for a count of ``settings`` below 1 or above its limit."""
    for name in names:
        value, limit = getattr(settings, name), COUNTS.get(name, MOST_COUNT)
        if value < 1:
            raise ValueError(f"{name}={value}; expected at least 1")
        if value > limit:
            raise ValueError(f"{name}={value}; the limit is {limit:,}")


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(annotation: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        several = typing.get_origin(arguments[0]) is dict
        return (_named_settings if several else _one_named)(arguments[1], value, where)
    if dataclasses.is_dataclass(annotation):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}={value!r}: expected settings of its own, one 'key: value' a line")
        return build(typing.cast(type, annotation), value, f"{where}.")
    if origin is typing.Literal:
        if value not in arguments:
            raise SettingsError(f"{where}={value!r}: expected one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        *others, last = (kind for kind in arguments if kind is not type(None))
        for kind in others:
            with contextlib.suppress(SettingsError):
                return _value(kind, value, where)
        return _value(last, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where}={value!r}: expected a list")
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) != len(value):
            raise SettingsError(f"{where}={value!r}: expected a list of {len(kinds)}")
        return tuple(_value(kinds[i], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and dataclasses.is_dataclass(arguments[1]):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}={value!r}: expected settings by name")
        return {str(name): _value(arguments[1], own, f"{where}.{name}") for name, own in value.items()}
    if annotation is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML reads 1e-3 as text
        except (ValueError, OverflowError):
            raise SettingsError(f"{where}={value!r} is {type(value).__name__}; expected float") from None
        if not math.isfinite(number):
            raise SettingsError(f"{where}={value} is no finite number")
        return number
    if annotation is str and value is None:
        return ""  # ``key=`` and ``key:``, which YAML reads as null
    expected = origin or annotation
    if expected is Any or (isinstance(value, expected) and not (expected is int and isinstance(value, bool))):
        return value
    raise SettingsError(f"{where}={value!r} is {type(value).__name__}; expected {expected.__name__}")


def _one_named(choice: OneOf, value: Any, where: str) -> Any:
    if isinstance(value, list | tuple | Mapping) and len(value) > 1:
        raise SettingsError(f"{where} names {', '.join(map(str, value))}; expected one name")
    return next(iter(_named_settings(choice, value, where).values()))


def _named_settings(choice: OneOf, value: Any, where: str) -> dict[str, Any]:
    """Settings by the names in ``value``: a name, a list of names, or a mapping from names to settings of their own."""
    known = ", ".join(choice.kinds)
    if not value:
        raise SettingsError(f"{where} is empty; name at least one of {known}")
    if isinstance(value, str) or not isinstance(value, list | tuple | Mapping):
        value = [value]
    named = value if isinstance(value, Mapping) else dict.fromkeys(map(str, value))
    for name in named:
        if name not in choice.kinds:
            near = difflib.get_close_matches(str(name), choice.kinds, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"{where}: there is no {name!r}{meant} (known: {known})")
    return {
        name: _value(choice.kinds[name], {} if own is None else own, f"{where}.{name}") for name, own in named.items()
    }


def as_dict(settings: Any) -> dict[str, Any]:
    """A dataclass as plain data that YAML and JSON can hold (tuples become lists), from which :func:`build` makes an
    equal one."""
    annotations = typing.get_type_hints(type(settings), include_extras=True)
    return {f.name: _plain(getattr(settings, f.name), annotations[f.name]) for f in dataclasses.fields(settings)}


def _plain(value: Any, annotation: Any = None) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    if typing.get_origin(annotation) is typing.Annotated:
        kinds: Mapping[str, type] = typing.get_args(annotation)[1].kinds
        return {name: as_dict(value) for name, kind in kinds.items() if kind is type(value)}
    return as_dict(value)
