#!/usr/bin/env bats
# migrate-pages: host frames, and the guest's own pages, move below a program that checks its memory.

load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}

# start_stay NAME SIZE [OPTIONS]: the guest keeps a pattern, for ever; returns once it does.
start_stay() {
    local name=$1 size=$2
    shift 2
    start "$name" --mem 64M "$@" --append "stay $size 0" "$GUEST"
    wait_for grep -q keeps "$BATS_TEST_TMPDIR/$name.out"
}

# The guest would have ended with a line at the first word that is not as it was. It looks at
# all of them many times in the second that it gets.
ended_well() {
    sleep 1
    [[ $(stat_of "$1" 'd["state"]') == running ]]
    tf stop "$1"
    local status=0
    wait "$pid" || status=$?
    ((status == 143))
    [[ $(wc -l <"$BATS_TEST_TMPDIR/$1.out") -eq 1 ]]
}

# The frames that back the guest can be told apart by root alone.
sees_frames() {
    ((EUID == 0))
}

# storm NAME [OPTIONS]: moves all of RAM 12 times; the pages moved in $moved. Where frames can be
# seen, most are others than before.
storm() {
    local name=$1 i
    shift
    for ((i = 0; i < 12; i++)); do
        tf migrate-pages "$@" --json "$name" 0-64M
    done >"$BATS_TEST_TMPDIR/reports"
    moved=$(python3 - "$BATS_TEST_TMPDIR/reports" "$(sees_frames && echo 1)" <<'PYTHON'
import json, sys
text = open(sys.argv[1]).read()
reports = json.loads("[" + text.replace("}\n{", "},{") + "]")
assert len(reports) == 12
for r in reports:
    assert r["moved_bytes"] + r["busy_bytes"] + r["empty_bytes"] == 64 << 20, r
    if sys.argv[2]:
        assert r["seen_bytes"] >= 8 << 20 and r["same_bytes"] * 8 <= r["seen_bytes"], r
print(sum(r["moved_bytes"] >> 12 for r in reports))
PYTHON
    )
}

@test "host frames move thousands of times below a guest that writes, by each backing" {
    need_kvm
    local backing
    for backing in anon thp memfd; do
        start_stay "$backing" 8M --cpus 2 --backing "$backing"
        storm "$backing"
        ((moved >= 12 * 2048))
        ended_well "$backing"
    done
}

@test "host frames move in a range of the fault thread, and with the vCPUs held" {
    need_kvm
    start_stay lazy 8M --cpus 2 --backing anon --populate lazy
    storm lazy
    storm lazy --hold
    ended_well lazy
}

@test "locked memory stays locked while it moves" {
    need_kvm
    start_stay lock 8M --lock --backing anon
    tf migrate-pages --json lock 0-64M >"$BATS_TEST_TMPDIR/report"
    [[ $(json 'd["method"], d["moved_bytes"] >> 20' <"$BATS_TEST_TMPDIR/report") == "('hold', 64)" ]]
    local locked
    locked=$(awk '$1 == "VmLck:" { print $2 }' "/proc/$pid/status")
    ((locked >= 65536))
    ended_well lock
}

@test "the guest's kernel moves its pages: another gpa, the same content" {
    need_kvm
    start_stay gpa 64K --cpus 2
    run timeout 30 python3 - "$XDG_RUNTIME_DIR/twofold/gpa.sock" <<'PYTHON'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
replies = s.makefile()

def ask(gpa):
    s.sendall(json.dumps({"command": "move-page", "arguments": {"gpa": gpa}}).encode() + b"\n")
    return json.loads(replies.readline())["result"]

# Any page of a program; then that one, wherever it went.
at = next(r["to"] for r in map(ask, range(4 << 20, 32 << 20, 32768)) if r["result"] == "moved")
for moves in range(100):
    result = ask(at)
    if result["result"] != "moved" or result["to"] == at:
        print(result)
        break
    at = result["to"]
else:
    print("100 moves")
PYTHON
    [[ $output == "100 moves" ]]
    run tf migrate-pages --gpa gpa 0+32K
    [[ $status -eq 0 && $output == "moved 0 KiB; left 0 KiB"*"32 KiB that its allocator does not have" ]]
    ended_well gpa
}

@test "bad ranges, states and guests: one line, and the guest runs on" {
    need_kvm
    start_stay bad 64K
    local range
    for range in 0x1+4K 0+1 0-128M 1G+4K 0xfffffffffffff000+4K 4K-4K 8K-4K x 0; do
        run --separate-stderr tf migrate-pages bad "$range"
        refused 2
        run --separate-stderr tf migrate-pages --gpa bad "$range"
        refused 2
    done
    run --separate-stderr tf migrate-pages bad
    refused 2
    run --separate-stderr tf migrate-pages --gpa --hold bad 0+4K
    refused 2
    run --separate-stderr tf migrate-pages nosuch 0+4K
    refused 1
    tf guard bad 32M+4K access
    run --separate-stderr tf migrate-pages bad 0-64M
    refused 1
    [[ $stderr == *guarded* ]]
    tf guard bad 32M+4K off
    tf pause bad
    run --separate-stderr tf migrate-pages --gpa bad 8M+4K
    refused 1
    [[ $stderr == *paused* ]]
    run tf migrate-pages bad 0-64M
    [[ $status -eq 0 ]]
    [[ $(stat_of bad 'd["state"]') == paused ]]
    tf resume bad
    ended_well bad
}

@test "a guest without a mailbox is told apart" {
    need_kvm
    start plain "$KERNELS/spin.elf"
    run --separate-stderr tf migrate-pages --gpa plain 1M+4K
    refused 1
    [[ $stderr == *"no mailbox"* ]]
    [[ $(stat_of plain 'd["processes"]') == "[]" ]]
    run tf migrate-pages plain 0-64M
    [[ $status -eq 0 ]]
}

@test "stat lists the guest's processes with their roots" {
    need_kvm
    start_stay procs 64K
    [[ $(stat_of procs '[(p["pid"], p["name"]) for p in d["processes"]]') == "[(1, 'stay')]" ]]
    [[ $(stat_of procs 'int(d["processes"][0]["root"], 16) % 4096') == 0 ]]
}
