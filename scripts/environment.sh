# Sourced by the other scripts: makes the checkout's own environment in .venv, with Python 3.12 or newer.
# `prepare_environment runtime|dev` leaves $PYTHON, the environment's interpreter. A stamp keeps later starts
# free of any network. `prepare_cell` makes one of the environments of `scripts/test --all`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

_use() {
    environment="$root/$1"
    PYTHON="$environment/bin/python"
}
_use .venv

_is_new_enough() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

_is_version() {
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]
}

# Every Python that may be on this machine, the likeliest first.
_pythons() {
    local name shims candidate
    for name in python3.12 python3.13 python3.14 python3.15 python3 python; do
        command -v "$name" 2>/dev/null || true
    done
    shims=$(dirname "$(command -v pyenv 2>/dev/null || command -v python3 2>/dev/null || echo /nowhere/x)")
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python "$shims"/../versions/3.*/bin/python \
        /usr/local/bin/python3.1[2-9] /opt/homebrew/bin/python3.1[2-9] /opt/python*/bin/python3 \
        "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-3.*/bin/python3; do
        [ ! -x "$candidate" ] || echo "$candidate"
    done
}

# The first that really runs (a name on PATH may be a shim without a version behind it) and is new enough, or
# is of the version asked for.
_find_python() {
    local candidate
    while read -r candidate; do
        if _is_new_enough "$candidate" && { [ -z "${1-}" ] || _is_version "$candidate" "$1"; }; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done < <(_pythons)
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

# With the Python given, else with any that will do.
_make_environment() {
    local python=${1-} uv name=${environment##*/}
    rm -rf "$environment"
    if [ -n "$python" ] || python=$(_find_python); then
        echo "Making $name with $python ..." >&2
        "$python" -m venv "$environment" && return 0
        rm -rf "$environment"
        [ -z "${1-}" ] || return 1
    fi
    # Without --seed: pip comes from the Python itself, and so pip's own configuration holds for all packages.
    if uv=$(_find_uv) && echo "Making $name with Python 3.12 from uv ..." >&2 \
        && "$uv" venv --quiet --python 3.12 "$environment" >&2 && "$PYTHON" -m ensurepip >/dev/null; then
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
        if [ "$(cat "$environment/.reasoning-fix-$kind" 2>/dev/null)" = "$2" ] && _is_new_enough "$PYTHON"; then
            return 0
        fi
    done
    return 1
}

# More arguments go to pip.
_install() {
    local kind=$1 want=$2 python=$3 target="$root"
    shift 3
    if ! _is_new_enough "$PYTHON" || ! grep -qsF "$environment" "$environment/bin/activate"; then
        _make_environment "$python" || return 1
    fi
    echo "Installing what is needed into ${environment##*/} ..." >&2
    [ "$kind" = runtime ] || target="$root[$kind]"
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@" --editable "$target" >&2; then
        echo "error: the packages could not be installed; see the lines above, then start again." >&2
        return 1
    fi
    echo "$want" >"$environment/.reasoning-fix-$kind"
}

_prepare() {
    local kind=$1 want=$2 status=0
    if _is_prepared "$kind" "$want"; then
        return 0
    fi
    _lock || return 1
    trap 'rm -rf "$root/.venv-lock"' EXIT
    _is_prepared "$kind" "$want" || _install "$@" || status=1
    rm -rf "$root/.venv-lock"
    trap - EXIT
    return "$status"
}

_wanted() {
    echo "$(cksum <"$root/pyproject.toml") $root"
}

prepare_environment() {
    _prepare "$1" "$(_wanted)" ""
}

# The lowest version that pyproject.toml allows of each package.
_lowest() {
    "$1" - "$root/pyproject.toml" <<'END'
import re, sys, tomllib

for dependency in tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"]:
    ends = re.fullmatch(r"([\w.-]+)>=([\w.]+),<[\w.]+", dependency)
    print("==".join(ends.groups()) if ends else sys.exit(f"error: {dependency!r}: expected both ends of a range"))
END
}

# prepare_cell PYTHON VERSION lowest|newest: .venv-VERSION-END, with the packages at that end of their ranges.
prepare_cell() {
    local python=$1 end=$3 lowest
    _use ".venv-$2-$3"
    if [ "$end" = lowest ]; then
        lowest=$(_lowest "$python") || return 1
        # shellcheck disable=SC2086  # a word per package
        _prepare dev "$(_wanted)" "$python" $lowest
    else
        # Looked for once a day.
        _prepare dev "$(_wanted) $(date +%F)" "$python" --upgrade --upgrade-strategy eager
    fi
}
