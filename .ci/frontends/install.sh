#!/usr/bin/env bash
# Installs the frontends' clients, and the version of Node that they want, beside this script.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v npm >/dev/null; then
  echo "the tests with the frontends' clients need npm; install Node for this system" >&2
  exit 1
fi
# Without the packages' own scripts, but for the one that fetches Node.
npm install --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error
if [ ! -x node_modules/node/bin/node ] || ! node_modules/node/bin/node --version >/dev/null; then
  (cd node_modules/node && node installArchSpecificPackage.js)
fi
