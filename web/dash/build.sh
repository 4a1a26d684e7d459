#!/bin/sh
# Makes web/static/dash of web/dash. With --check it only tells whether what is
# checked in is what the sources make; CI runs that where Node is.
set -eu
cd "$(dirname "$0")"
[ -d node_modules/esbuild ] || npm ci --no-audit --no-fund --ignore-scripts
out=../static/dash
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
node_modules/.bin/esbuild src/main.jsx --bundle --minify --format=esm --target=es2022 --charset=utf8 \
  --jsx=automatic --jsx-import-source=preact --define:process.env.NODE_ENV='"production"' \
  --legal-comments=none --log-level=warning --outfile="$out/dash.js"
node_modules/.bin/esbuild src/style.css --minify --log-level=warning --outfile="$out/dash.css"
cp index.html icon.svg NOTICE.txt "$out/"
if [ "${1:-}" = --check ]; then
  diff -rq "$out" ../static/dash || { echo "web/static/dash is not what web/dash makes: run web/dash/build.sh and commit it" >&2; exit 1; }
  echo "web/static/dash is current"
fi
