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

# spaces NAME: "GVA GPA HPA" of the first word that the guest keeps; HPA null where not permitted.
spaces() {
    tf walk --pid 1 --user --json "$1" 0x2000000000 | json 'd["gva"] + " " + d["gpa"] + " " + str(d["hpa"])'
}

@test "a walk shows what stays: gva and gpa when the host moves, gva when the guest does" {
    need_kvm
    start_stay bind 64K --cpus 2
    local before after third
    read -ra before < <(spaces bind)
    tf migrate-pages bind 0-64M
    read -ra after < <(spaces bind)
    [[ ${after[0]} == "${before[0]}" && ${after[1]} == "${before[1]}" ]]
    ! sees_frames || [[ ${after[2]} == 0x* && ${after[2]} != "${before[2]}" ]]
    tf migrate-pages --gpa bind "${after[1]}+4K"
    read -ra third < <(spaces bind)
    [[ ${third[0]} == "${before[0]}" && ${third[1]} != "${after[1]}" ]]
    ended_well bind
}

@test "the guest's kernel moves pages hundreds of times below a program on another CPU" {
    need_kvm
    start_stay gpa 64K --cpus 2
    local at
    read -r _ at _ < <(spaces gpa)
    run timeout 50 python3 - "$XDG_RUNTIME_DIR/twofold/gpa.sock" "$at" <<'PYTHON'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
replies = s.makefile()
at = sys.argv[2]
for moves in range(300):
    s.sendall(json.dumps({"command": "move-page", "arguments": {"gpa": at}}).encode() + b"\n")
    result = json.loads(replies.readline()).get("result", {})
    if result.get("result") != "moved" or result["to"] == at:
        sys.exit(f"{moves}: {result}")
    at = result["to"]
print(at)
PYTHON
    [[ $status -eq 0 ]]
    [[ $(spaces gpa) == "0x2000000000 $output "* ]]
    run tf migrate-pages --gpa gpa 0+32K
    [[ $status -eq 0 && $output == "moved 0 KiB; left 0 KiB"*"32 KiB that its allocator does not have" ]]
    ended_well gpa
}

@test "bad ranges, states and guests: one line, and the guest runs on" {
    need_kvm
    start_stay bad 64K
    local range frame
    frame=$(tf walk bad --json --pid 1 0x400000 | json 'd["hpa"]')
    for range in 0x1+4K 0+1 0-128M 1G+4K 0xfffffffffffff000+4K 4K-4K 8K-4K x 0; do
        run --separate-stderr tf migrate-pages bad "$range"
        refused 2
        run --separate-stderr tf migrate-pages --gpa bad "$range"
        refused 2
    done
    # Nothing moves of a range whose first part alone is RAM.
    [[ $(tf walk bad --json --pid 1 0x400000 | json 'd["hpa"]') == "$frame" ]]
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
