# Makes the project's environment in .venv from requirements.lock. Sourced by the scripts beside it, which set `root`.
# When there is nothing to do, a call starts neither Python, uv nor pip.

venv=$root/.venv
stamp=$venv/.ganrun/ready # written last: without it, .venv is incomplete
minimum="3, 11"

say() { printf 'ganrun: %s\n' "$*" >&2; }

refuse() { # exit code: 2 when the user can fix it, 4 when the machine failed
    code=$1
    shift
    say "$@"
    exit "$code"
}

digest() { if command -v sha256sum >/dev/null 2>&1; then sha256sum; else cksum; fi; }

# What an environment depends on: its path (its scripts name their interpreter), the locked versions, and the project's own
# metadata.
wanted() {
    printf '%s\n' "$root"
    sed '/^\[tool\./,$d' "$root/pyproject.toml" | cat "$root/requirements.lock" - | digest
}

ready() { [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }

# The base interpreter, so that removing an active .venv does not remove the interpreter that makes the next one.
ask_python='import sys
if sys.version_info < ('$minimum'): sys.exit("Python " + ".".join(map(str, sys.version_info[:3])))
print(getattr(sys, "_base_executable", "") or sys.executable)'

find_python() {
    found="no Python"
    if [ -n "${GANRUN_PYTHON:-}" ]; then set -- "$GANRUN_PYTHON"; else set -- python3 python3.13 python3.12 python3.11 python; fi
    for candidate; do
        if python=$("$candidate" -c "$ask_python" 2>/dev/null) && [ -x "$python" ]; then return; fi
        old=$("$candidate" -c "$ask_python" 2>&1) || case $old in "Python "*) found="$old ($candidate)" ;; esac
    done
    if uv=$(find_uv) && python=$("$uv" python find --no-project --no-python-downloads '>=3.11' 2>/dev/null); then return; fi
    refuse 2 "environment: found $found, expected Python 3.11 or newer." \
        "Try: installing one, or naming it: GANRUN_PYTHON=/path/to/python3.12 scripts/ganrun"
}

find_uv() { command -v uv; }

# Removes an unfinished environment of these scripts; renames one that somebody else made.
clear_the_way() {
    if [ -d "$venv/.ganrun" ]; then
        say "removing the unfinished or outdated environment in .venv"
        mv "$venv" "$venv.removed"
    elif [ -e "$venv" ] || [ -L "$venv" ]; then
        kept=.venv.kept-$(date +%Y%m%d-%H%M%S)
        say "the .venv here is not from these scripts; it is kept as $kept"
        mv "$venv" "$root/$kept"
    fi
    rm -rf "$venv.removed" # renamed first, so that a later call does not keep an interrupted removal as somebody's .venv
}

can_create() { # refuses before anything is changed
    find_python
    if ! uv=$(find_uv) && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        refuse 2 "environment: $python has no venv module, expected uv or venv." \
            "Try: installing your system's python3-venv package, or uv"
    fi
}

create() {
    clear_the_way
    mkdir -p "$venv/.ganrun" || return
    say "making the environment in .venv with $python (once; downloads a few GB with PyTorch)"
    if uv=$(find_uv); then
        "$uv" venv --quiet --no-project --allow-existing --python "$python" "$venv"
    else
        "$python" -m venv "$venv"
    fi
}

# Nothing is resolved: the lock lists every package, and a file whose hash differs is refused. Packages that come as source are
# built with the locked setuptools, which is therefore installed first.
install() {
    locked setuptools | pip_install --quiet --require-hashes -r /dev/stdin &&
        pip_install --require-hashes -r "$root/requirements.lock" &&
        pip_install --quiet -e "$root"
}

locked() { awk -v name="$1" '/^[a-z]/ { shown = index($0, name "==") == 1 } shown' "$root/requirements.lock"; }

pip_install() {
    set -- --no-deps --no-build-isolation "$@"
    if uv=$(find_uv); then
        "$uv" pip install --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip --disable-pip-version-check install --no-user --no-compile --use-pep517 "$@"
    fi
}

# Whether .venv was once complete at this path, so that installing the difference is enough.
updatable() {
    [ -f "$stamp" ] && [ "$(sed 1q "$stamp")" = "$root" ] && [ -x "$venv/bin/python" ] &&
        { find_uv >/dev/null || [ -x "$venv/bin/pip" ]; }
}

make_ready() {
    began=$(date +%s)
    if updatable; then
        say "bringing the environment in .venv up to date"
        rm -f "$stamp"
    else
        can_create && create || return # checked again: another call may have failed while this one waited
    fi
    install || return
    printf '%s\n' "$wanted" >"$stamp.new" && mv "$stamp.new" "$stamp" || return
    say "the environment is ready after $(($(date +%s) - began)) s"
}

# One call at a time: this shell and its children hold the lock, and it is freed when they end.
prepare() {
    wanted=$(wanted)
    if ready; then return; fi
    [ -w "$root" ] || refuse 2 "environment: $root is not writable, expected a folder in which .venv can be made. Try: a copy that you own"
    updatable || can_create
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$root/.venv.lock"
        flock -n 9 || { say "waiting for another call that makes the environment" && flock 9; }
    fi
    ready || make_ready >&2 || refuse 4 "environment: could not be made; the reason is above." \
        "Try: the same again; what was downloaded is kept"
    exec 9>&-
}
