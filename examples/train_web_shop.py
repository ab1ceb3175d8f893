"""The whole loop from Python: search, pairs, training and evaluation on the web shop, and the table's rows.

    python examples/train_web_shop.py smoke runs/example     # the tiny run; without "smoke" it takes minutes

Goes on where it was stopped, as ``branchwise loop`` does.
"""

import sys
from pathlib import Path

from rich.console import Console

from branchwise.training.display import ProgressDisplay
from branchwise.training.loop import load_config, run_loop

if __name__ == "__main__":  # the stages run in processes of their own, which import this file
    if len(sys.argv) > 3 or any(word.startswith("-") for word in sys.argv[1:]):
        sys.exit("usage: python examples/train_web_shop.py [CONFIG] [RUN]")
    name = sys.argv[1] if len(sys.argv) > 1 else "web_shop"
    run = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/example")
    try:
        config = load_config(name, ["seed=1"])
        print(f"{name} in {run}")
        with ProgressDisplay(Console()) as display:
            rows = run_loop(config, run, display, workers=2)
    except ValueError as error:
        sys.exit(f"{error}")
    for row in rows:
        print(f"{row.agent:30} {row.success:6.1%}  [{row.success_low:.1%}, {row.success_high:.1%}]")
    print(run / "report.html")
