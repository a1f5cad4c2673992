#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2030,SC2031 # status, stderr and pid are set by run and start
# --paging shadow: what the other commands do with and say of such a VM.

load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}
ADDRESS=0x7ffd12345678 # of the walk_* kernels

need_shadow() {
    need_kvm
    [[ $(tf info --json | json 'd["kvm"]["paging"]["shadow"]["available"]') == True ]] ||
        skip "skipped: this KVM has no registers in the shared page"
}

# kernel NAME KERNEL [OPTIONS]: one of the walk_* kernels, once it is ready
kernel() {
    local name=$1 kernel=$2
    shift 2
    start "$name" --paging shadow --backing anon --mem 64M "$@" "$KERNELS/$kernel.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/$name.out"
}

# keeper NAME SIZE [OPTIONS]: a program that keeps a pattern and checks it for ever
keeper() {
    local name=$1 size=$2
    shift 2
    start "$name" --paging shadow --mem 64M "$@" --append "stay $size 0" "$GUEST"
    wait_for grep -q keeps "$BATS_TEST_TMPDIR/$name.out"
}

# walk_of PYTHON-EXPRESSION [OPTIONS] ADDRESS: of VM vm; s is the shadow
walk_of() {
    local expression=$1
    shift
    tf walk --json vm "$@" | json "(lambda s: ($expression))(d['shadow'])"
}

mapped() {
    [[ $(walk_of 's["state"]' "$@") == mapped ]]
}

# --- run ------------------------------------------------------------------------------------

@test "run --paging shadow: output and status are the guest's, as with nested" {
    need_shadow
    local paging
    for paging in nested shadow; do
        run --separate-stderr tf run --timeout 20 --paging $paging "$GUEST" -- hello
        [[ $status -eq 0 && -z $stderr ]]
        [[ $output == *[Hh]ello* ]]
        printf '%s\n' "$output" >"$BATS_TEST_TMPDIR/$paging"
        # A program that dies of a fault that is its own.
        run --separate-stderr tf run --timeout 20 --paging $paging "$GUEST" -- die null
        [[ $status -eq 78 && $output == *"page fault at 0x0 (read, not present), error code 0x4"* ]]
    done
    diff "$BATS_TEST_TMPDIR/nested" "$BATS_TEST_TMPDIR/shadow"
}

@test "run --paging: a value that is none, status 2 and one line" {
    local bad
    for bad in "" none Shadow "shadow," ept nested-shadow; do
        run --separate-stderr tf run --paging "$bad" "$KERNELS/spin.elf"
        refused 2
        [[ $stderr == "twofold: --paging: '$bad' is none; use nested or shadow" ]]
    done
    run --separate-stderr tf run "$KERNELS/spin.elf" --paging
    refused 2
}

# Each crash ends with its own status and a dump of the guest's registers, not of ours.
@test "run --paging shadow: crashes are the guest's" {
    need_shadow
    run -127 --separate-stderr tf run --timeout 20 --paging shadow "$KERNELS/crash_paged.elf"
    [[ $stderr == *"triple fault"*"cr2 00000000c0401234"*"walk of cr2 00000000c0401234"*"not present"* ]]
    run -127 --separate-stderr tf run --timeout 20 --paging shadow "$KERNELS/crash_triple.elf"
    [[ $stderr == *"triple fault"* ]]
    run --separate-stderr tf run --timeout 0.5 --paging shadow "$KERNELS/spin.elf"
    [[ $status -eq 124 && $stderr == *time-out* ]]
}

@test "run --trace: a trap has its vector, and a page fault its address" {
    need_shadow
    run tf run --timeout 20 --paging shadow --trace="$BATS_TEST_TMPDIR/trace" "$GUEST" -- hello
    [[ $status -eq 0 ]]
    grep -qE '^[0-9.]+ cpu0 trap rip=0x[0-9a-f]+ vector=14 cr2=0x[0-9a-f]+$' "$BATS_TEST_TMPDIR/trace"
    grep -qE '^[0-9.]+ cpu0 trap rip=0x[0-9a-f]+ vector=13$' "$BATS_TEST_TMPDIR/trace"
    # The monitor carries port accesses out; they are listed as those of any guest.
    grep -qE '^[0-9.]+ cpu0 pio rip=0x[0-9a-f]+ out 0xf4 size=' "$BATS_TEST_TMPDIR/trace"
    # Never our own port.
    run ! grep -q ' 0xe9 ' "$BATS_TEST_TMPDIR/trace"
}

# --- numbers --------------------------------------------------------------------------------

@test "stat: what a shadow VM was helped with adds up; a nested one has no such thing" {
    need_shadow
    keeper vm 4M --cpus 2
    tf stat --json vm >"$BATS_TEST_TMPDIR/stat"
    python3 - "$BATS_TEST_TMPDIR/stat" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
s = d["shadow"]
assert d["paging"] == "shadow"
assert all(v >= 0 for k, v in s.items() if k != "emulated"), s
assert s["traps"] == sum(v["exits"]["traps"] for v in d["vcpus"]) > 0
assert all(v["exits"]["total"] >= v["exits"]["traps"] for v in d["vcpus"])
assert 0 < s["page_faults"] <= s["traps"]
# 4 MiB of 4 KiB pages, each of which is in the shadow by a leaf of its own.
assert s["fills"] >= 1024 and s["fills_large"] <= s["fills"], s
assert s["emulated"]["cr3"] > 0 and s["emulated"]["io"] > 0 and s["emulated"]["iret"] > 0
assert s["syncs"] > 0 and s["roots_made"] > 0
assert 0 < s["tables"] <= s["tables_max"] and s["unsync_tables"] <= 256
assert s["evictions"] == 0 and s["refused_tables"] == 0 and s["window_accesses"] == 0
PYTHON
    [[ $(tf stat vm) == *"paging shadow"*"shadow paging"*"traps "*"fills "* ]]
    [[ $(tf ps) == *PAGING*shadow* ]]
    [[ $(tf top --once vm) == *"paging shadow"*"traps/s"*"fills/s"* ]]
    start other --paging nested "$KERNELS/spin.elf"
    [[ $(stat_of other 'd["paging"], "shadow" in d, d["vcpus"][0]["exits"]["traps"]') == "('nested', False, 0)" ]]
    [[ $(tf stat other) == *"paging nested"* && $(tf stat other) != *"shadow paging"* ]]
    [[ $(tf top --once other) != *"fills/s"* ]]
    [[ $(tf walk --json other rip | json '"shadow" in d') == False ]]
    [[ $(tf walk other rip) != *"ring 0 sees"* ]]
}

@test "info: shadow paging is there exactly where KVM has registers in the shared page" {
    tf info --json >"$BATS_TEST_TMPDIR/info"
    need_kvm
    run json 'd["kvm"]["paging"]["shadow"]["available"] ==
        [c["value"] & 3 == 3 for c in d["kvm"]["capabilities"] if c["name"] == "sync_regs"][0],
        d["kvm"]["paging"]["nested"]["available"], d["kvm"]["paging"]["shadow"]["needs"]' \
        <"$BATS_TEST_TMPDIR/info"
    [[ $output == "(True, True, 'KVM_CAP_SYNC_REGS')" ]]
    [[ $(tf info) == *"run --paging"*"nested: yes"*"shadow: "* ]]
}

# --- walk -------------------------------------------------------------------------------------

@test "walk: the shadow's entries lead to the guest's gpa, a level each" {
    need_shadow
    kernel vm walk_read_4k
    wait_for mapped $ADDRESS
    tf walk --json vm --access w $ADDRESS >"$BATS_TEST_TMPDIR/walk"
    python3 - "$BATS_TEST_TMPDIR/walk" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
s = d["shadow"]
address = 0x000ffffffffff000
assert (s["state"], s["ring"], s["allows"], s["out_of_sync"]) == ("mapped", 0, True, False), s
assert s["gpa"] == d["gpa"] == "0xa05678" and s["page"] == d["guest_page"] == 4096
e = s["entries"]
assert [(x["level"], x["index"]) for x in e] == [(4, 0x0ff), (3, 0x1f4), (2, 0x091), (1, 0x145)]
assert [x["name"] for x in e] == ["PML4E", "PDPTE", "PDE", "PTE"]
table = int(s["root"], 16)
for x in e:
    assert int(x["address"], 16) == table + 8 * x["index"], x
    assert x["value"] and not x["out_of_sync"]
    table = int(x["value"], 16) & address
    assert x["table"] is None or int(x["table"], 16) == table
    # Everything runs in ring 3; the accessed bit is there from the start.
    assert {"P", "U", "A"} <= set(x["flags"])
    # Our tables lie above all that the guest has.
    assert int(x["address"], 16) > 64 << 20
assert e[3]["gpa"] == "0xa05000" and e[3]["page"] == 4096 and table == 0xa05000
PYTHON
    # One that nobody has used, whose table is there; a page that is read-only; none.
    run walk_of 's["state"], s["gpa"], [x["level"] for x in s["entries"]], s["entries"][-1]["value"]' 0x7ffd12348678
    [[ $output == "('not filled', None, [4, 3, 2, 1], '0x0')" ]]
    run walk_of 's["state"], s["root"], s["entries"]' --cr3 0x5000 $ADDRESS
    [[ $output == "('no root', None, [])" ]]
    run walk_of 's["state"], len(s["entries"])' 0xffffc00000000000
    [[ $output == "('window', 1)" ]]
    run walk_of 's["state"], s["entries"]' 0x800000000000
    [[ $output == "('not canonical', [])" ]]
    # Ring 3 never ran here.
    run walk_of 's["state"], s["ring"]' --user $ADDRESS
    [[ $output == "('no root', 3)" ]]
    run tf walk vm --user $ADDRESS
    [[ $status -eq 0 && $output == *"no shadow root for these tables yet"* ]]
    # Looking fills nothing.
    [[ $(walk_of 's["state"]' 0x7ffd12348678) == "not filled" ]]
}

@test "walk: large pages are large in the shadow, too" {
    need_shadow
    kernel vm walk_read_2m
    wait_for mapped $ADDRESS
    run walk_of 's["gpa"], s["page"], [x["level"] for x in s["entries"]], s["entries"][-1]["gpa"]' $ADDRESS
    [[ $output == "('0xd45678', 2097152, [4, 3, 2], '0xc00000')" ]]
    run tf walk vm $ADDRESS
    [[ $output == *"-> 2M page c00000"* && $output != *"out of sync"* ]]
}

@test "walk: an entry that the guest changed and did not flush is out of sync" {
    need_shadow
    kernel vm walk_stale
    stale() {
        [[ $(walk_of 's["out_of_sync"]' $ADDRESS) == True ]]
    }
    wait_for stale
    # The guest's tables lead to another page than what a CPU may still use.
    run walk_of 'd["gpa"], s["gpa"], [x["level"] for x in s["entries"] if x["out_of_sync"]]' $ADDRESS
    [[ $output == "('0xa07678', '0xa05678', [1])" ]]
    run env COLUMNS=120 "$TWOFOLD" walk vm $ADDRESS
    [[ $output == *"out of sync: the guest changed its entry"* && $output == *"-> 4K page a05000  out of sync"* ]]
    tf walk --svg vm $ADDRESS >"$BATS_TEST_TMPDIR/walk.svg"
    grep -q 'out of sync' "$BATS_TEST_TMPDIR/walk.svg"
    python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$BATS_TEST_TMPDIR/walk.svg"
    "$TWOFOLD" walk vm --watch $ADDRESS >"$BATS_TEST_TMPDIR/watch" 3>&- &
    wait_for grep -q 'shadow mapped 4K out of sync  start' "$BATS_TEST_TMPDIR/watch"
    kill $!
}

@test "walk: as this hardware makes it, and of a process by both rings" {
    need_shadow
    start vm --paging shadow --backing anon --mem 64M --append spin "$GUEST"
    wait_for mapped --pid 1 0x403010
    local kind
    kind=$(tf walk --json vm --pid 1 0x403010 | json 'd["hardware"]["kind"]')
    run walk_of 'd["hardware"]["references"]' --pid 1 0x403010
    # In two dimensions where KVM's tables are; elsewhere its own table of the shadow's and the map.
    [[ $kind == unknown || $output == "$([[ $kind == nested ]] && echo 24 || echo 4)" ]]
    run walk_of 's["ring"], s["gpa"] == d["gpa"], s["allows"]' --pid 1 --access w 0x403010
    [[ $output == "(3, True, True)" ]]
    # Code can't be written.
    run walk_of 's["allows"]' --pid 1 --access w 0x400000
    [[ $output == False ]]
    run walk_of 's["ring"], s["root"] != None' --pid 1 --supervisor 0x403010
    [[ $output == "(0, True)" ]]
    # The pause of a look leaves the VM as it was.
    [[ $(stat_of vm 'd["state"]') == running ]]
}

# --- the other commands -------------------------------------------------------------------------

@test "pause, resume, console and stop" {
    need_shadow
    start vm --paging shadow --console pty --mem 64M "$KERNELS/serial_echo.elf"
    tf pause vm
    [[ $(stat_of vm 'd["state"]') == paused ]]
    local before
    before=$(stat_of vm 'd["shadow"]["traps"]')
    sleep 0.2
    [[ $(stat_of vm 'd["shadow"]["traps"]') == "$before" ]]
    # A walk of a VM that is paused already.
    [[ $(tf walk --json vm rip | json 'd["was_running"], "state" in d["shadow"]') == "(False, True)" ]]
    tf resume vm
    [[ $(stat_of vm 'd["state"]') == running ]]
    tf stop vm
    local rc=0
    wait "$pid" || rc=$?
    ((rc == 143))
}

@test "the console works both ways" {
    need_shadow
    run --separate-stderr timeout 30 bash -c "printf 'abcxyz' | '$TWOFOLD' run --timeout 20 --paging shadow '$KERNELS/serial_echo.elf'"
    local shadow=$output rc=$status
    run --separate-stderr timeout 30 bash -c "printf 'abcxyz' | '$TWOFOLD' run --timeout 20 '$KERNELS/serial_echo.elf'"
    [[ $shadow == "$output" && $rc -eq $status ]]
}

@test "guard access: the guest's next access ends it with the same sentence, status 127" {
    need_shadow
    local cpus rc
    for cpus in 1 2; do
        start "vm$cpus" --paging shadow --backing anon --cpus $cpus --append "touch 64M 100000000" "$GUEST"
        resident() {
            [[ $(stat_of "vm$cpus" 'd["memory"]["resident_bytes"] > 60 << 20') == True ]]
        }
        wait_for resident
        tf guard "vm$cpus" 24M-56M access
        rc=0
        wait "$pid" || rc=$?
        [[ $rc -eq 127 ]]
        grep -qE "^twofold: vCPU [01] can't go on: guarded memory: (write|read) at gpa 0x[0-9a-f]+, rip 0x[0-9a-f]+$" \
            "$BATS_TEST_TMPDIR/vm$cpus.err"
        local at
        at=$(grep -oE 'at gpa 0x[0-9a-f]+' "$BATS_TEST_TMPDIR/vm$cpus.err" | head -1)
        ((${at##* } >= 24 << 20 && ${at##* } < 56 << 20))
    done
}

@test "lazy and eager population" {
    need_shadow
    need_root "serve faults of the kernel's"
    local policy
    for policy in lazy eager; do
        run --separate-stderr tf run --timeout 30 --paging shadow --mem 64M --populate $policy "$GUEST" -- hello
        [[ $status -eq 0 && -z $stderr ]]
    done
    keeper vm 8M --populate lazy --backing anon
    [[ $(stat_of vm 'd["memory"]["pages"]["faults"]["missing"] > 0') == True ]]
    # Only what was touched is there: an eighth and some.
    [[ $(stat_of vm '8 << 20 <= d["memory"]["resident_bytes"] <= 24 << 20') == True ]]
}

@test "dirty tracking sees exactly the pages that a shadow guest writes" {
    need_shadow
    start vm --paging shadow --backing anon --mem 64M "$KERNELS/track_pages.elf"
    wait_for grep -q touching "$BATS_TEST_TMPDIR/vm.out"
    local _
    for _ in 1 2 3; do
        run tf stat --pages --json --track dirty --interval 300ms vm
        [[ $(json 'd["dirty"]["bytes"]' <<<"$output") == $((37 * 4096)) ]]
    done
    [[ $(tf stat --pages --json --track off vm | json 'd["dirty"]["on"]') == False ]]
    [[ $(stat_of vm 'd["state"]') == running ]]
}

@test "frames, and the guest's pages, move below a shadow guest that checks its memory" {
    need_shadow
    keeper vm 64K --cpus 2 --backing anon
    local _ at to
    for _ in 1 2 3 4; do
        [[ $(tf migrate-pages --json vm 0-64M | json 'd["moved_bytes"] > 0') == True ]]
    done
    at=$(tf walk --json --pid 1 --user vm 0x2000000000 | json 'd["gpa"]')
    for _ in 1 2 3 4; do
        tf migrate-pages --gpa vm "$at+4K"
        to=$(tf walk --json --pid 1 --user vm 0x2000000000 | json 'd["gpa"]')
        [[ $to != "$at" ]]
        at=$to
    done
    # The shadow follows: no stale frame after the guest's flush.
    same() {
        run walk_of 's["state"], s["gpa"] == d["gpa"], s["out_of_sync"]' --pid 1 --user 0x2000000000
        [[ $output == "('mapped', True, False)" ]]
    }
    wait_for same
    sleep 1
    [[ $(stat_of vm 'd["state"]') == running && $(wc -l <"$BATS_TEST_TMPDIR/vm.out") -eq 1 ]]
}
