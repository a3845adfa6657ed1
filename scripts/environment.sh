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
    if command -v uv >/dev/null 2>&1; then
        command -v uv
        return 0
    fi
    local private="$root/.venv-uv" python
    if [ ! -x "$private/bin/uv" ]; then
        python=$(command -v python3 || command -v python) || return 1
        rm -rf "$private"
        "$python" -m venv "$private" >&2 && "$private/bin/python" -m pip install --quiet uv >&2 || return 1
    fi
    echo "$private/bin/uv"
}

_make_environment() {
    local python uv
    if python=$(_find_python); then
        echo "Making .venv with $python ..." >&2
        rm -rf "$root/.venv"
        "$python" -m venv "$root/.venv"
    elif uv=$(_find_uv); then
        echo "Making .venv with Python 3.12 from uv ..." >&2
        rm -rf "$root/.venv"
        "$uv" venv --quiet --seed --python 3.12 "$root/.venv" >&2
    else
        echo "error: reasoning-fix needs Python 3.12 or newer; install it (or uv) and start again." >&2
        return 1
    fi
}

prepare_environment() {
    local kind=$1 stamp want
    stamp="$root/.venv/.reasoning-fix-$kind"
    want=$(cksum <"$root/pyproject.toml")
    if [ -x "$PYTHON" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && _is_new_enough "$PYTHON"; then
        return 0
    fi
    _is_new_enough "$PYTHON" || _make_environment
    echo "Installing what is needed into .venv ..." >&2
    local target="$root"
    [ "$kind" = runtime ] || target="$root[$kind]"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$target" >&2 || {
        echo "error: the packages could not be installed; see the lines above." >&2
        return 1
    }
    echo "$want" >"$stamp"
}
