#!/bin/sh
# Makes .env from .env.example, with a random value of its own behind each name that has none.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
  echo "docker/.env is there already; it holds the passwords of the volumes, so it stays as it is" >&2
  exit 1
fi
umask 077
new=$(mktemp)
trap 'rm -f "$new"' EXIT
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
while IFS= read -r line; do
  case "$line" in
    '#'*) printf '%s\n' "$line" ;;
    *=) printf '%s%s\n' "$line" "$(random)" ;;
    *) printf '%s\n' "$line" ;;
  esac
done <.env.example >"$new"
cp "$new" .env
echo "Made docker/.env"
