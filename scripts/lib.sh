# Functions shared by the scripts beside this file; source it, do not run it.
#
#   say TEXT            progress, on stderr, so that a script's own output stays clean
#   die TEXT            one clear line, exit 1
#   is_root             true for the real root and for root in a user namespace
#   find_python         prints a Python >= 3.11
#   make_venv           the project's virtual environment in .venv, with the dev extra
#   need_packages P...  installs missing Debian packages when root; prints what is still missing

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

say() { printf '%s\n' "-- $*" >&2; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

find_python() {
  local candidate path
  for candidate in "${PYTHON:-}" python3 python3.11 python3.12 python3.13 python3.14; do
    [ -n "$candidate" ] || continue
    path=$(command -v "$candidate") || continue
    if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$path"
      return 0
    fi
  done
  die "no Python >= 3.11 found; install python3.11 or newer, or set PYTHON=/path/to/it"
}

# Done again only when pyproject.toml (the dependencies) or the interpreter changed. The stamp is
# written last: an interrupted run starts over.
make_venv() {
  local python stamp
  python=$(find_python) || exit 1
  stamp="$("$python" -V) $(sha256sum <"$ROOT/pyproject.toml")"
  [ "$(cat "$VENV/stamp" 2>/dev/null)" = "$stamp" ] && return 0
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian splits venv off; the package name carries the version.
    need_packages "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" >/dev/null
  fi
  say "virtual environment in .venv ($("$python" -V))"
  "$python" -m venv --clear "$VENV" || die "cannot make $VENV (Debian, Ubuntu: apt install python3-venv)"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check --editable "$ROOT[dev]" \
    || die "pip could not install the project into $VENV"
  printf '%s\n' "$stamp" >"$VENV/stamp"
}

package_installed() {
  dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

missing_packages() {
  local package
  for package in "$@"; do
    package_installed "$package" || printf '%s\n' "$package"
  done
}

# Links of services that start at boot.
enabled_services() { find /etc/systemd/system -path '*.wants/*.service' -printf '%f\n' 2>/dev/null | sort -u; }

# Installing keepalived or frr must not start daemons on this machine, now or at the next boot.
install_quietly() {
  local policy=/usr/sbin/policy-rc.d own_policy='' before unit status
  before=$(enabled_services)
  if [ ! -e "$policy" ]; then
    own_policy=$policy
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  (
    export DEBIAN_FRONTEND=noninteractive
    # The second try is for a machine whose package lists were never fetched, or are stale.
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 \
      || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null
  )
  status=$?
  [ -z "$own_policy" ] || rm -f "$own_policy"
  while read -r unit; do
    [ -z "$unit" ] || systemctl disable --quiet "$unit" >/dev/null 2>&1 || status=1
  done < <(comm -13 <(printf '%s\n' "$before") <(enabled_services))
  return $status
}

need_packages() {
  local missing
  if ! command -v dpkg-query >/dev/null; then
    say "no Debian system: cannot tell whether these are installed: $*"
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  if [ ${#missing[@]} -gt 0 ] && is_root && command -v apt-get >/dev/null; then
    say "installing Debian packages: ${missing[*]} (their services stay off)"
    install_quietly "${missing[@]}" || say "apt could not install all of them"
  fi
  missing_packages "$@"
}
