#!/usr/bin/env bash
# Trains with the default configuration; arguments are settings, as for train.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python="$here/.venv/bin/python"
[ -x "$python" ] || python=python3
exec "$python" "$here/train.py" "$@"
