#!/bin/sh
# Makes the virtual environment $1 with Python 3.11 or newer, and puts pip into it.
#
#     tools/make_venv.sh .venv [PYTHON]
#
# With uv on the path, uv makes it. Otherwise the first interpreter that fits is taken: python3 if its
# version is one the project is tested on, then python3.13, 3.12, 3.11, then any newer python3. An
# environment that already works is left as it is.
set -eu

venv=${1:?usage: tools/make_venv.sh VENV [PYTHON]}
wanted=${2:-}

# A name on the path is not enough: version managers leave shims that fail when they are run.
fits() { "$1" -c "import sys; raise SystemExit(not ($2))" >/dev/null 2>&1; }
new_enough='sys.version_info >= (3, 11)'
tested='(3, 11) <= sys.version_info < (3, 14)'

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

find_python() {
    if [ -n "$wanted" ]; then
        fits "$wanted" "$new_enough" ||
            fail "PYTHON=$wanted does not run, or is older than Python 3.11." \
                "Give another one: make PYTHON=/path/to/python3.12"
        echo "$wanted"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11; do
        if fits "$name" "$tested"; then
            echo "$name"
            return
        fi
    done
    if fits python3 "$new_enough"; then
        echo python3
        return
    fi
    fail "Python 3.11 or newer is needed; python3 here is: $(python3 --version 2>&1 || echo missing)." \
        "Install one (for example python3.12 and python3.12-venv), or name it: make PYTHON=/path/to/python3.12"
}

if [ -x "$venv/bin/python" ] && fits "$venv/bin/python" "$new_enough" &&
    "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

if command -v uv >/dev/null 2>&1; then
    # --seed: pip belongs into the environment, since the smollm2 resolver runs it.
    uv venv --quiet --clear --seed --python "${wanted:->=3.11,<3.14}" "$venv"
    exit 0
fi

python=$(find_python)
"$python" -m venv --clear "$venv" ||
    fail "$python -m venv failed: on Debian and Ubuntu its module is a package of its own." \
        "Install it (for example: apt-get install python3-venv), then try again."
