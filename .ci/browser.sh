#!/usr/bin/env bash
# Installs what the browser test needs: Chromium and its driver, from Debian's own packages.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "the browser test needs chromium and chromedriver; install them for this system" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "the browser test needs chromium and chromedriver; as root: apt-get install chromium chromium-driver" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends chromium chromium-driver >/dev/null
