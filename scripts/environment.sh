# Makes the project's environment in .venv out of requirements.lock. Sourced by the scripts beside it, which set `root`.
# A call with nothing to do costs a few small processes: neither Python, uv nor pip is started.

venv=$root/.venv
stamp=$venv/.ganrun/ready # written last: without it, what lies in .venv is half made
minimum="3, 11"

say() { printf 'ganrun: %s\n' "$*" >&2; }

refuse() { # exit code: 2 when the user can change it, 4 when the machine failed
    code=$1
    shift
    say "$@"
    exit "$code"
}

digest() { if command -v sha256sum >/dev/null 2>&1; then sha256sum; else cksum; fi; }

# What an environment depends on: where it stands (its scripts name their interpreter), the locked versions, and the
# project's own metadata.
wanted() {
    printf '%s\n' "$root"
    sed '/^\[tool\./,$d' "$root/pyproject.toml" | cat "$root/requirements.lock" - | digest
}

ready() { [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; }

# The base interpreter, so that removing an active .venv does not remove what is to make the next one.
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

# An interrupted environment of ours is removed; one that somebody else made is kept aside.
clear_the_way() {
    if [ -d "$venv/.ganrun" ]; then
        say "removing the unfinished or outdated environment in .venv"
        mv "$venv" "$venv.removed"
    elif [ -e "$venv" ] || [ -L "$venv" ]; then
        kept=.venv.kept-$(date +%Y%m%d-%H%M%S)
        say "the .venv here is not from these scripts; it is kept as $kept"
        mv "$venv" "$root/$kept"
    fi
    rm -rf "$venv.removed" # under another name, so that an interrupted removal is not taken for somebody's .venv
}

can_create() { # refuses while nothing has been touched
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

# Nothing is resolved: the lock lists everything, and a file whose hash differs is refused. What ships as source is built
# with the locked setuptools, which therefore comes first.
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

# Whether the present environment was once complete, here, so that installing the difference is enough.
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
        can_create && create || return # asked again: another call may have failed while this one waited
    fi
    install || return
    printf '%s\n' "$wanted" >"$stamp.new" && mv "$stamp.new" "$stamp" || return
    say "the environment is ready after $(($(date +%s) - began)) s"
}

# One at a time: the lock is held by this shell and by what it starts, and vanishes with them.
prepare() {
    wanted=$(wanted)
    if ready; then return; fi
    [ -w "$root" ] || refuse 2 "environment: $root is not writable, expected room for .venv. Try: a copy that you own"
    updatable || can_create
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$root/.venv.lock"
        flock -n 9 || { say "waiting for another call that makes the environment" && flock 9; }
    fi
    ready || make_ready >&2 || refuse 4 "environment: could not be made, the reason stands above." \
        "Try: the same again; what was downloaded is kept"
    exec 9>&-
}
