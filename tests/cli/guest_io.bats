#!/usr/bin/env bats
# Pages move below a guest whose disk transfers to and from them.

# shellcheck disable=SC2154 # pid is from there
load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}

# start_check NAME: a guest that compares what it reads from its disk.
start_check() {
    truncate -s 1M "$BATS_TEST_TMPDIR/$1.img"
    start "$1" --mem 64M --cpus 2 --disk "$BATS_TEST_TMPDIR/$1.img" \
        --append "disk check 2048 0 4" "$GUEST"
}

ended_well() {
    local status=0
    wait "$pid" || status=$?
    cat "$BATS_TEST_TMPDIR/$1.out"
    ((status == 0))
    grep -q '^disk 0: 2048 sectors, 256 transfers at random, all read back right$' \
        "$BATS_TEST_TMPDIR/$1.out"
}

@test "the guest's kernel moves pages while its disk transfers: those that are held stay" {
    need_kvm
    start_check gpas
    # Around those of the programs, until the VM has ended; how many moved.
    run timeout 60 python3 - "$XDG_RUNTIME_DIR/twofold/gpas.sock" <<'PYTHON'
import itertools, json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
replies = s.makefile()
seen = {}
try:
    for at in itertools.cycle(range(0x140000, 0x1c0000, 4096)):
        s.sendall(json.dumps({"command": "move-page", "arguments": {"gpa": hex(at)}}).encode() + b"\n")
        result = json.loads(replies.readline()).get("result", {}).get("result")
        seen[result] = seen.get(result, 0) + 1
except (OSError, ValueError):
    pass
print(seen)
sys.exit(not seen.get("moved"))
PYTHON
    echo "$output"
    [[ $status -eq 0 ]]
    ended_well gpas
}

@test "host frames move while a disk transfers" {
    need_kvm
    start_check frames
    # The last one finds the VM gone.
    while tf migrate-pages frames 0-64M; do :; done >"$BATS_TEST_TMPDIR/moves" 2>&1
    ended_well frames
    grep -q '^moved *[1-9]' "$BATS_TEST_TMPDIR/moves"
}
