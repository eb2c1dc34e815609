"""What importing the library costs beyond the four packages it stands on, in milliseconds.

Each round starts one interpreter that imports the four packages and one that imports hilos_async,
in turn; the figure is the median of the differences. Run: python -m benchmarks.import_time
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 15
BUDGET = 25.0
FOUR = "import aiohttp, msgspec, tenacity, anyio"


def seconds(statement: str) -> float:
    """Wall time of an interpreter that runs the statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> int:
    """Print the figure; 1 if it is over the budget."""
    seconds(f"{FOUR}, hilos_async")
    pairs = [(seconds(FOUR), seconds(f"{FOUR}, hilos_async")) for _ in range(ROUNDS)]
    four = statistics.median(pair[0] for pair in pairs) * 1000
    more = statistics.median(whole - base for base, whole in pairs) * 1000
    print(f"four packages {four:.0f} ms; hilos_async {more:+.1f} ms (budget {BUDGET:.0f} ms)")
    return int(more > BUDGET)


if __name__ == "__main__":
    sys.exit(main())
