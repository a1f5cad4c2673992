# For tests/cli/*.bats: where things are, VMs in the background, looking into JSON.

bats_require_minimum_version 1.5.0

ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
TWOFOLD=${TWOFOLD:-$ROOT/build/twofold}
KERNELS=${KERNELS:-$ROOT/build/tests/kernels}

setup() {
    # Many tests wait for what a busy machine does late: once more, and it is told.
    # shellcheck disable=SC2034 # bats reads it
    BATS_TEST_RETRIES=1
    ((BATS_TEST_TRY_NUMBER == 1)) || echo "# second try: $BATS_TEST_DESCRIPTION" >&3
    # Sockets of a test are its own.
    export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR
    vm_pids=()
}

teardown() {
    local pid
    for pid in "${vm_pids[@]}"; do
        kill -CONT "$pid" 2>/dev/null || true
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

# The folder of records of devices: root's is the machine's.
records() {
    if ((EUID == 0)); then echo /run/twofold/devices; else echo "$XDG_RUNTIME_DIR/twofold/devices"; fi
}

need_kvm() {
    [[ -r /dev/kvm && -w /dev/kvm ]] || skip "skipped: no /dev/kvm that this user may open"
}

need_root() {
    ((EUID == 0)) || skip "skipped: needs root to $1"
}

# twofold, never for longer than a minute.
tf() {
    timeout -k 5 60 "$TWOFOLD" "$@"
}

# wait_for COMMAND...: until it succeeds, 20 s at most.
wait_for() {
    local i
    for ((i = 0; i < 400; i++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "waited in vain for: $*" >&2
    return 1
}

# start NAME [OPTIONS] KERNEL: a VM in the background; its output is in NAME.out
# and NAME.err, its pid in $pid. Returns once it answers.
start() {
    local name=$1
    shift
    "$TWOFOLD" run --name "$name" --timeout 60 "$@" </dev/null \
        >"$BATS_TEST_TMPDIR/$name.out" 2>"$BATS_TEST_TMPDIR/$name.err" 3>&- &
    pid=$!
    vm_pids+=("$pid")
    wait_for "$TWOFOLD" stat "$name"
}

# json PYTHON-EXPRESSION: of the JSON on stdin, which is d.
json() {
    python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval("(" + sys.argv[1] + ")"))' "$1"
}

# stat_of NAME PYTHON-EXPRESSION
stat_of() {
    tf stat --json "$1" | json "$2"
}

# ask NAME REQUEST...: sends each request as a line and prints the replies.
ask() {
    local name=$1
    shift
    printf '%s\n' "$@" | timeout 20 socat -t 10 - "UNIX-CONNECT:$XDG_RUNTIME_DIR/twofold/$name.sock"
}

# shellcheck disable=SC2154 # status, stderr are set by run
# After `run --separate-stderr`: failed with a status, one line on stderr, nothing on stdout.
refused() {
    [[ $status -eq $1 ]] || {
        echo "status $status instead of $1: $stderr" >&2
        return 1
    }
    [[ -z $output ]]

    [[ ${#stderr_lines[@]} -eq 1 && $stderr == "twofold: "* ]] || {
        echo "not one line: $stderr" >&2
        return 1
    }
}
