"""The process in which math-verify compares answers: lines of JSON ``[gold, answer]`` in, one word a line out.

Run by path with ``python -I``: it imports nothing of the package. It ends when its input does, and its memory is
limited. Time is the parent's to watch, so math-verify's own alarms, which stop at parsing, are off.
"""

import json
import logging
import sys

MEMORY = 2 << 30  # bytes of address space; sympy alone maps 0.4 of them


def main() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system; the parent still watches the time
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        try:
            right, given = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer))
            if right and given:
                # In this order: math-verify is not symmetric.
                reply = "correct" if verify(right, given, timeout_seconds=None) else "wrong"
            else:
                reply = "ungradable"
        except BaseException:
            reply = "ungradable"
        print(reply, flush=True)


if __name__ == "__main__":
    main()
