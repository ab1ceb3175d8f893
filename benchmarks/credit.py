"""Which way of assigning credit is right, and which trains best: the command ``branchwise bench credit``, whose lines
and tables are kept as results.

    python benchmarks/credit.py --out runs/credit --option seeds=5
"""

import argparse
import shutil
from pathlib import Path

from branchwise.cli.credit import bench_credit
from branchwise.training.credit.run import LOG, TABLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/credit"), help="folder of the run; resumed if there")
    parser.add_argument("--option", action="append", metavar="KEY=VALUE", help="as of the command")
    arguments = parser.parse_args()
    bench_credit(arguments.option, 0, arguments.out)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for name in (LOG, TABLES):
        shutil.copyfile(arguments.out / name, results / name)


if __name__ == "__main__":
    main()
