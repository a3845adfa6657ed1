# Sourced by the other scripts: makes the checkout's own environment in .venv, with Python 3.12 or newer.
# `prepare_environment runtime|dev` leaves $PYTHON, the environment's interpreter. A stamp keeps later starts
# free of any network.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON="$root/.venv/bin/python"

_is_new_enough() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

# The first Python that really runs and is new enough: a name on PATH may be a shim without a version behind it.
_find_python() {
    local name candidate
    for name in python3.12 python3.13 python3.14 python3.15 python3 python; do
        candidate=$(command -v "$name" 2>/dev/null) || continue
        if _is_new_enough "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    local shims
    shims=$(dirname "$(command -v pyenv 2>/dev/null || command -v python3 2>/dev/null || echo /nowhere/x)")
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python "$shims"/../versions/3.*/bin/python \
        /usr/local/bin/python3.1[2-9] /opt/homebrew/bin/python3.1[2-9] /opt/python*/bin/python3; do
        if [ -x "$candidate" ] && _is_new_enough "$candidate"; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# uv brings a Python of its own: the one on PATH, else one that pip puts into a private place.
_find_uv() {
    if uv --version >/dev/null 2>&1; then
        command -v uv
        return 0
    fi
    local private="$root/.venv-uv" python
    if "$private/bin/uv" --version >/dev/null 2>&1; then
        echo "$private/bin/uv"
        return 0
    fi
    for python in python3 python; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1 || continue
        rm -rf "$private"
        # Debian's python3 has pip or venv as packages of their own: either will do.
        if { "$python" -m venv "$private" && "$private/bin/python" -m pip install --quiet uv; } >/dev/null 2>&1 \
            || { rm -rf "$private"; "$python" -m pip install --quiet --target "$private" uv; } >&2; then
            echo "$private/bin/uv"
            return 0
        fi
    done
    return 1
}

_make_environment() {
    local python uv
    rm -rf "$root/.venv"
    if python=$(_find_python); then
        echo "Making .venv with $python ..." >&2
        "$python" -m venv "$root/.venv" && return 0
        rm -rf "$root/.venv"
    fi
    # Without --seed: pip comes from the Python itself, and so pip's own configuration holds for all packages.
    if uv=$(_find_uv) && echo "Making .venv with Python 3.12 from uv ..." >&2 \
        && "$uv" venv --quiet --python 3.12 "$root/.venv" >&2 && "$PYTHON" -m ensurepip >/dev/null; then
        return 0
    fi
    echo "error: reasoning-fix needs Python 3.12 or newer; install it (or uv) and start again." >&2
    return 1
}

# One start at a time installs; the others wait. The lock of a process that is gone is taken over.
_lock() {
    local lock="$root/.venv-lock" owner
    until mkdir "$lock" 2>/dev/null; do
        owner=$(cat "$lock/pid" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -rf "$lock"
        elif [ ! -w "$root" ]; then
            echo "error: $root is not writable; .venv belongs there." >&2
            return 1
        fi
        sleep 0.2
    done
    echo $$ >"$lock/pid"
}

# The stamp names the checkout too: the environment's scripts hold its path. "dev" has all of "runtime".
_is_prepared() {
    local kind
    for kind in "$1" dev; do
        if [ "$(cat "$root/.venv/.reasoning-fix-$kind" 2>/dev/null)" = "$2" ] && _is_new_enough "$PYTHON"; then
            return 0
        fi
    done
    return 1
}

_install() {
    local kind=$1 want=$2 target="$root"
    if ! _is_new_enough "$PYTHON" || ! grep -qsF "$root/.venv" "$root/.venv/bin/activate"; then
        _make_environment || return 1
    fi
    echo "Installing what is needed into .venv ..." >&2
    [ "$kind" = runtime ] || target="$root[$kind]"
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$target" >&2; then
        echo "error: the packages could not be installed; see the lines above, then start again." >&2
        return 1
    fi
    echo "$want" >"$root/.venv/.reasoning-fix-$kind"
}

prepare_environment() {
    local kind=$1 want status=0
    want="$(cksum <"$root/pyproject.toml") $root"
    if _is_prepared "$kind" "$want"; then
        return 0
    fi
    _lock || return 1
    trap 'rm -rf "$root/.venv-lock"' EXIT
    _is_prepared "$kind" "$want" || _install "$kind" "$want" || status=1
    rm -rf "$root/.venv-lock"
    trap - EXIT
    return "$status"
}
