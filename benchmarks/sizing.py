"""What a number of specs costs the control plane: the figures behind the table of sizes in docs/operations.md.

For 10, 100 and 1,000 specs of four pod tasks, each number in its own process: CPU time to build and serialize all of
them once; memory that they hold when all are kept, as schedulers and API servers keep them; their size in the database.
A DAG processor starts a process for each file, which costs it more than that: docs/operations.md has a whole pass.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from parse import IMAGE, SPEC, environment, write

COUNTS = (10, 100, 1000)


def memory() -> float:
    """MiB of this process that it shares with no other."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def measure(folder: Path) -> None:
    """Print CPU seconds, MiB held and MiB in the database for the specs of a folder."""
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_mlplatform.factory.build import dag_of

    paths = sorted(folder.iterdir())
    dag_of(str(paths[0]), root=str(folder))
    start = time.process_time()
    texts = [json.dumps(DagSerialization.to_dict(dag_of(str(path), root=str(folder)))) for path in paths]
    seconds = time.process_time() - start
    DagSerialization.from_dict(json.loads(texts[0]))
    before = memory()
    kept = [DagSerialization.from_dict(json.loads(text)) for text in texts]
    print(json.dumps([seconds, memory() - before, sum(map(len, texts)) / 2**20, len(kept)]))


def main() -> None:
    """Measure each number of specs and print a line for it."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for count in COUNTS:
            specs = work / str(count)
            write(specs, ".yaml", lambda name: SPEC.format(name=name, image=IMAGE), count)
            command = [sys.executable, __file__, str(specs)]
            done = subprocess.run(command, env=environment(work), check=True, capture_output=True, text=True)
            seconds, held, stored, _ = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{count:>5} specs  {seconds:6.2f} s to build  {held:6.1f} MiB held  {stored:5.2f} MiB in the database"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
    else:
        main()
