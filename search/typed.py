"""Settings that hold what their fields say: :func:`check_fields` refuses a value of another type when a dataclass of
settings is made, in one line. Ranges and contradictions are the dataclass's own business."""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class OneOf:
    """In ``Annotated[A | B, OneOf({"a": A, "b": B})]``: a choice among named kinds of settings (dataclasses), written
    as ``a`` or, with settings of its own, as ``a: {...}``. A field of type ``dict[str, A | B]`` so annotated holds
    several, each by its name."""

    kinds: Mapping[str, type]


def check_fields(settings: Any) -> None:
    """For ``__post_init__`` of a frozen dataclass. Whole numbers are asked for where a field is an int, and are fine
    where it is a float; numpy's numbers become Python's, lists tuples. Raises TypeError for another type, ValueError
    for a text that is none of a field's choices."""
    kind: Any = type(settings)
    for name, annotation in _annotations(kind).items():
        value = getattr(settings, name)
        if isinstance(value, np.generic):
            value = value.item()
            object.__setattr__(settings, name, value)
        if isinstance(value, list) and typing.get_origin(annotation) is tuple:
            value = tuple(value)
            object.__setattr__(settings, name, value)
        if not _fits(value, annotation):
            error = ValueError if isinstance(value, str) and typing.get_origin(annotation) is Literal else TypeError
            raise error(f"{kind.__name__}.{name} is {value!r}; expected {_words(annotation)}")


@lru_cache(maxsize=64)
def _annotations(kind: Any) -> dict[str, Any]:
    annotations = typing.get_type_hints(kind)
    return {field.name: annotations[field.name] for field in fields(kind)}


def _fits(value: Any, annotation: Any) -> bool:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if isinstance(value, tuple) and inner[-1] is ... else inner
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if annotation is float or annotation is int:
        allowed = (int, float) if annotation is float else int
        return isinstance(value, allowed) and not isinstance(value, bool) and value == value
    return isinstance(value, origin or annotation)


def _words(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is tuple:
        return f"a tuple of {_words(inner[0])}"
    if is_dataclass(annotation):
        return f"{getattr(annotation, '__name__', annotation)}(…)"
    names = {float: "a number", int: "a whole number", bool: "True or False", str: "a text", type(None): "None"}
    return names.get(annotation) or f"a {getattr(origin or annotation, '__name__', annotation)}"
