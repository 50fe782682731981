#!/usr/bin/env bash
# The unit tests at both ends of the supported range: the oldest Airflow with the oldest Python, the newest with the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() { # VERSION
  local candidate
  for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
    if "$candidate" -c 'pass' 2>/dev/null; then command -v "$candidate"; return; fi
  done
}

run() { # VERSION LOCKFILE
  local lock=$2 folder=".venv-range/$1" python
  python=$(find_python "$1")
  if [ -z "$python" ]; then
    if [ "${MLPLATFORM_REQUIRE_SERVICES:-}" = 1 ]; then echo "missing in CI: Python $1" >&2; exit 1; fi
    echo "skipped: Python $1 is not installed"
    return
  fi
  [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
  .venv/bin/uv pip install --quiet --python "$folder/bin/python" --compile-bytecode --require-hashes -r "$lock"
  .venv/bin/uv pip install --quiet --python "$folder/bin/python" --no-deps --editable .
  "$folder/bin/python" -c 'import airflow, sys; print(f"Airflow {airflow.__version__}, Python {sys.version.split()[0]}")'
  "$folder/bin/python" -m pytest -q -p no:cacheprovider tests/unit
}

run 3.11 requirements-oldest.lock
run 3.13 requirements.lock
