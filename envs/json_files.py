"""JSON from outside, read so that any damage is a ``ValueError`` of one line: where, what is wrong, what was expected;
and JSON for others, in words that every parser reads.

Python's parser raises three kinds of errors: for what is no UTF-8, for what is no JSON (or a number of too many
digits), and, for brackets nested too deeply, ``RecursionError``. A byte order mark, with which Windows' tools begin a
file, is passed over. Not here: what the content must be; who reads it checks that.

:func:`stamp` is for caches of what was read: a part of the key that changes with the file.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def parse_json(text: str | bytes, where: str, expected: str, *, unique: bool = False) -> Any:
    """The value that ``text`` holds. ``where`` and ``expected`` are for the error: file and line, and what should be
    there, with the cure. ``unique`` refuses an object that has a key twice, of which Python's parser takes the last."""
    pairs = _without_repeats if unique else None
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, object_pairs_hook=pairs)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 ({error}); {expected}") from None
    except RecursionError:
        raise ValueError(f"{where}: not JSON that can be read (brackets nested too deeply); {expected}") from None
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error if text else 'it is empty'}); {expected}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r:.40} twice in one object")
    return found


def read_json(path: str | Path, expected: str) -> Any:
    """The value in the JSON file ``path``."""
    return parse_json(Path(path).read_bytes(), str(path), expected)


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON of RFC 8259 in ASCII. What is no finite number, which JSON cannot say, is null; a number of
    another library is a float."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return float(value) if math.isfinite(value) else None


def json_lines(
    path: str | Path, expected: str, *, most_bytes: int = -1, unique: bool = False
) -> Iterator[tuple[str, Any]]:
    """File and line, and the value there, of each line of a JSONL file; blank lines are passed over. A line of more
    than ``most_bytes`` (−1: of any length) is refused before it is read whole; ``unique`` as in :func:`parse_json`."""
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(most_bytes + 1 if most_bytes >= 0 else -1), b""), 1):
            if 0 <= most_bytes < len(line):
                raise ValueError(f"{path}, line {number}: longer than {most_bytes:,} bytes, the limit; {expected}")
            if number == 1 and line.startswith(b"PAR1"):
                raise ValueError(f"{path}: a parquet file (`branchwise pairs` makes pairs of one of trees); {expected}")
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                value = parse_json(line, where, expected, unique=unique)
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise
                fault = str(error).removeprefix(f"{where}: ").removesuffix(f"; {expected}")
                raise ValueError(
                    f"{where}: the line has no end; the file was cut off ({fault}). Write it again"
                ) from None
            yield where, value


def read_text(path: str | Path, expected: str) -> str:
    """The text in ``path``, which must be UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); {expected}") from None


def stamp(path: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of change of the file ``path``, or of all JSON files below that folder; nothing where there
    are none."""
    path = Path(path)
    found = sorted(path.rglob("*.json*")) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in found if file.is_file()]
    return tuple((name, known.st_size, known.st_mtime_ns) for name, known in stats)
