#!/usr/bin/env bash
# Sets up what `make` needs: `tools/setup.sh demo` the virtual environment with the package in it,
# `tools/setup.sh dev` also the test tools and the system programs that the tests drive.
# Safe to run any number of times: what is there already is left alone, and a second run takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-dev}
venv=.venv

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

# Installing a mail server must not start one: policy-rc.d tells Debian's maintainer scripts so. One that is there
# already is left as it is; ours is taken away again.
policy=/usr/sbin/policy-rc.d
own_policy=no
restore_policy() { if [ "$own_policy" = yes ]; then as_root rm -f "$policy"; fi; }
trap restore_policy EXIT

install_packages() {
    if ! can_install; then
        say "missing: $*"
        say "install them and run this again:  sudo apt-get install --no-install-recommends $*"
        exit 1
    fi
    say "installing $*"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        own_policy=yes
        as_root chmod 755 "$policy"
    fi
    # Never a question: no dumpcap for other users than root, and no configuration of the system's own mail.
    as_root env DEBIAN_FRONTEND=noninteractive debconf-set-selections <<'ANSWERS'
wireshark-common wireshark-common/install-setuid boolean false
postfix postfix/main_mailer_type select No configuration
ANSWERS
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    restore_policy
    own_policy=no
}

has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

# A Python of 3.11 or later, or nothing.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

system_tools() {
    local missing=() pair
    for pair in tcpdump:tcpdump tshark:tshark openssl:openssl ip:iproute2 postfix:postfix git:git; do
        has "${pair%%:*}" || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

virtual_environment() {
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    local python
    python=$(find_python)
    if [ -z "$python" ]; then
        install_packages python3 python3-venv
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        say "Python 3.11 or later is needed; this system's python3 is older or missing (set PYTHON=/path/to/python)"
        exit 1
    fi
    # Debian splits ensurepip off into python3-venv; without it, making the environment fails half way.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local version
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        install_packages "python$version-venv"
    fi
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

package() {
    local extra=$1 stamp=$venv/.stamp-$2 wanted
    wanted=$(sha256sum pyproject.toml | cut -d' ' -f1)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    say "installing smtpdebug$extra in $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$extra"
    printf '%s\n' "$wanted" >"$stamp"
}

case $mode in
demo)
    virtual_environment
    # The test tools include the package: no need to install it twice.
    if [ -f "$venv/.stamp-dev" ]; then package '[dev]' dev; else package '' demo; fi
    ;;
dev)
    system_tools
    virtual_environment
    package '[dev]' dev
    ;;
*)
    say "usage: tools/setup.sh demo|dev"
    exit 2
    ;;
esac

# Start-up is half as long with byte code, which an editable install does not write, nor a run without the right to.
"$venv/bin/python" -m compileall -q smtpdebug || true
