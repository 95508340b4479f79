#!/usr/bin/env bash
# Builds the pages if they are not built yet, and starts the backend.
set -euo pipefail
cd "$(dirname "$0")"

[ -d node_modules ] || npm install --ignore-scripts --no-package-lock --no-audit --no-fund
[ -d built ] || npm run --silent build
exec "${PYTHON:-python}" -m uvicorn backend:api --host 127.0.0.1 --port "${PORT:-8000}"
