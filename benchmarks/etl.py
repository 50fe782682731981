"""What an ETL spec costs against the same query written straight in DuckDB: rows a second and peak memory.

Run it with ``python benchmarks/etl.py``. Each figure is the best of some fresh processes; the variants take turns, so
that a busy machine slows all of them. Time runs from the first line of work to the published file; imports are told
apart. Goal: a fused spec reaches at least 0.9 of the rows a second of plain DuckDB, at both sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict

QUERY = "SELECT g, name, price * 2 AS price2, id, day FROM input WHERE price < 90"
MEMORY = "1Gi"
SIZES = (2_000_000, 20_000_000)
VARIANTS = ("duckdb", "fused", "separate")
GOAL = 0.9


class Figures(TypedDict):
    """What one process tells."""

    seconds: float
    cpu: float
    imports: float
    peak: float


def make_input(rows: int, file: Path) -> None:
    """Write the Parquet file that all variants read."""
    import duckdb

    duckdb.sql(
        "COPY (SELECT range AS id, (range * 7919) % 1000 AS g, random() * 100 AS price, "
        "'name ' || (range % 5000) AS name, "
        f"DATE '2026-01-01' + (range % 365)::INT AS day FROM range({rows})) TO '{file}' (COMPRESSION zstd)"
    )


def run_duckdb(folder: Path, source: Path) -> None:
    """Do it by hand, with the engine's own settings."""
    import duckdb

    from airflow_mlplatform.steps.engine import memory_limit

    limit = f"{memory_limit(MEMORY)}B"
    with duckdb.connect(config={"memory_limit": limit, "temp_directory": str(folder / "spill")}) as connection:
        connection.execute(
            f"COPY (WITH input AS (FROM '{source}') {QUERY}) TO '{folder}/out.parquet' "
            "(FORMAT parquet, COMPRESSION zstd)"
        )


def run_fused(_: Path, source: Path) -> None:
    """Do it with the one operator of a fused spec; its folders come from the environment."""
    from airflow_mlplatform.operators.etl import EtlOperator

    EtlOperator(
        task_id="etl",
        extract={"files": {"uri": str(source)}},
        transform=[{"sql": QUERY}],
        load={"uri": "pond://out.parquet"},
        memory=MEMORY,
    ).execute(_context())


def run_separate(_: Path, source: Path) -> None:
    """Do it with an operator a stage."""
    from airflow.sdk import DAG

    from airflow_mlplatform.operators.etl_stages import ExtractOperator, LoadOperator, TransformOperator

    with DAG("benchmark", schedule=None):
        stages = [
            ExtractOperator(task_id="e", source={"files": {"uri": str(source)}}, memory=MEMORY),
            TransformOperator(task_id="t", transforms=[{"sql": QUERY}], inputs={"input": "e"}, memory=MEMORY),
            LoadOperator(task_id="l", load={"uri": "pond://out.parquet"}, input="t", memory=MEMORY),
        ]
    stages[0] >> stages[1] >> stages[2]
    for stage in stages:
        stage.execute(_context())


def _context() -> Any:
    class Events(dict[Any, Any]):
        def __missing__(self, key: Any) -> Any:
            return self.setdefault(key, SimpleNamespace(extra={}))

    return {"run_id": "benchmark", "ti": SimpleNamespace(map_index=-1), "outlet_events": Events()}


def work(variant: str, folder: Path, source: Path) -> None:
    """Run one variant in this process and print its figures."""
    began = time.perf_counter()
    import duckdb  # noqa: F401

    if variant != "duckdb":
        import pyarrow.fs
        import pyarrow.parquet  # noqa: F401
        from airflow.sdk import Asset

        import airflow_mlplatform.operators.etl
        import airflow_mlplatform.operators.etl_stages
        import airflow_mlplatform.steps.pipeline
        import airflow_mlplatform.steps.staging  # noqa: F401

        Asset("pond://x")  # Airflow imports all providers of asset schemes at the first one
    imported, used = time.perf_counter(), time.process_time()
    {"duckdb": run_duckdb, "fused": run_fused, "separate": run_separate}[variant](folder, source)
    ended = time.perf_counter()
    peak = peak_mebibytes()
    cpu = time.process_time() - used
    print(json.dumps(Figures(seconds=ended - imported, cpu=cpu, imports=imported - began, peak=peak)))


def peak_mebibytes() -> float:
    """Return the largest resident set of this process, in MiB.

    Not ``ru_maxrss`` where Linux tells better: that one begins with the memory of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(variant: str, source: Path) -> Figures:
    """Run one variant in a fresh process and a fresh folder."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        env = os.environ | {
            "AIRFLOW_HOME": f"{source.parent}/airflow",
            "AIRFLOW__MLPLATFORM__POND": folder,
            "AIRFLOW__MLPLATFORM__STAGING": f"{folder}/staging",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "TMPDIR": folder,
        }
        command = [sys.executable, __file__, "--work", variant, folder, str(source)]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(rows: int, folder: Path, rounds: int) -> float:
    """Print the lines of one size; return the ratio of fused to plain DuckDB."""
    source = folder / f"input-{rows}.parquet"
    make_input(rows, source)
    runs: dict[str, list[Figures]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, done in runs.items():
            done.append(measure(variant, source))
    best = {variant: min(done, key=lambda one: one["seconds"]) for variant, done in runs.items()}
    for variant, one in best.items():
        ratio = best["duckdb"]["seconds"] / one["seconds"]
        peak = max(run["peak"] for run in runs[variant])
        cpu = min(run["cpu"] for run in runs[variant])
        print(
            f"{rows:>12,}  {variant:<10}{rows / one['seconds']:>14,.0f}{ratio:>8.2f}{cpu:>9.2f}{peak:>10.0f}"
            f"{one['imports']:>11.2f}"
        )
    return best["duckdb"]["seconds"] / best["fused"]["seconds"]


def main() -> None:
    """Compare at both sizes and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes a figure (default 3)")
    parser.add_argument("--work", nargs=3, metavar=("VARIANT", "FOLDER", "SOURCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        variant, folder, source = options.work
        work(variant, Path(folder), Path(source))
        return
    print(f"{'rows':>12}  {'variant':<10}{'rows/s':>14}{'ratio':>8}{'CPU s':>9}{'peak MiB':>10}{'imports s':>11}")
    with tempfile.TemporaryDirectory() as place:
        ratios = [compare(rows, Path(place), options.rounds) for rows in SIZES]
    print(f"fused against DuckDB: {', '.join(f'{ratio:.2f}' for ratio in ratios)} (goal: {GOAL})")


if __name__ == "__main__":
    main()
