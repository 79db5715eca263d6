#!/usr/bin/env bash
# Makes .venv from requirements.lock on a fresh Debian or Ubuntu. Called by make; safe to run again.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'setup: %s\n' "$*"; }
works() { "$1" -c 'import sys, ssl, ctypes, lzma; sys.exit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1; }

# System libraries: OpenGL without a display, and a compiler for the mesh library, which comes as source.
missing=()
known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
for library in libEGL.so.1 libOSMesa.so libGL.so.1; do
    [[ $known == *"$library"* ]] || missing+=("$library")
done
compgen -G '/usr/share/glvnd/egl_vendor.d/*.json' >/dev/null || missing+=("an EGL driver")
command -v c++ >/dev/null || missing+=("a C++ compiler")
if ((${#missing[@]})); then
    packages="libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libosmesa6 g++"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing what is missing: ${missing[*]}"
        apt-get update -qq >/dev/null
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
    else
        say "missing: ${missing[*]}; without them nothing renders. Install them with"
        say "    sudo apt-get install -y $packages"
    fi
fi

# uv installs the lock; pip brings it where it is missing.
if ! command -v uv >/dev/null; then
    python3 -m pip install --quiet --user uv 2>/dev/null ||
        python3 -m pip install --quiet --user --break-system-packages uv ||
        { say "uv is missing and pip could not install it: see https://docs.astral.sh/uv"; exit 2; }
    PATH="$(python3 -m site --user-base)/bin:$PATH"
fi

# A Python 3.12 that really runs: a shim on PATH may only print where it is not installed.
python=
for candidate in $(type -ap python3.12) "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3.12; do
    if [ -x "$candidate" ] && works "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    say "no Python 3.12 found, downloading one with uv"
    uv python install --quiet 3.12
    python=$(uv python find 3.12)
fi

if [ ! -x .venv/bin/python ] || ! works .venv/bin/python; then
    say "creating .venv with $python"
    uv venv --quiet --clear --python "$python" .venv
fi
say "installing the locked packages"
uv pip sync --quiet --python .venv requirements.lock
uv pip install --quiet --python .venv --no-deps -e .
say "done"
