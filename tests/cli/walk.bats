#!/usr/bin/env bats
# twofold walk: the picture in its forms, whose tables, bad input. Counts and fault codes on live
# VMs are in tests/walk/run, which the lab runs, too.

load helper

ADDRESS=0x7ffd12345678

ready() {
    need_kvm
    start vm --backing anon --mem 64M "$@" "$KERNELS/walk_4k.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/vm.out"
}

# walk_of PYTHON-EXPRESSION [OPTIONS] ADDRESS
walk_of() {
    local expression=$1
    shift
    tf walk --json vm "$@" | json "$expression"
}

@test "walk --json: every field that programs rely on" {
    ready
    run walk_of 'd["gva"], d["gpa"], d["guest_levels"], d["host_levels"], d["fault"], d["count"],
        d["rights"], d["guest_format"], d["access"], d["user"], d["vcpu"], d["root"]' $ADDRESS
    [[ $output == "('0x7ffd12345678', '0xa05678', 4, 4, None, 24, 'rwxu', '4-level', 'r', False, 0, '0x800000')" ]]
    run walk_of 'int(d["hva"], 16) % 4096 == 0x678,
        [r["number"] for r in d["references"]] == list(range(1, 25)),
        all({"dimension", "level", "address", "value", "flags", "row", "column", "name"} <= set(r)
            for r in d["references"])' $ADDRESS
    [[ $output == "(True, True, True)" ]]
    # What the kernel wrote last in the leaf, in words.
    run walk_of '[r for r in d["references"] if r["dimension"] == "guest"][-1]["flags"]' $ADDRESS
    [[ $output == "['P', 'W', 'U', 'A', 'D']" ]]
    run walk_of 'd["hardware"]["kind"] in ("nested", "shadow", "pvm"), len(d["hardware"]["text"]) > 20,
        d["hardware"]["references"] in (4, 24)' $ADDRESS
    [[ $output == "(True, True, True)" ]]
}

@test "walk: the host's entries lead to the hva, and each guest entry is where the row before says" {
    ready
    tf walk --json vm $ADDRESS >"$BATS_TEST_TMPDIR/walk"
    python3 - "$BATS_TEST_TMPDIR/walk" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
address = 0x000ffffffffff000
refs = d["references"]
rows = [[r for r in refs if r["row"] == n] for n in range(5)]
for n, row in enumerate(rows):
    gpa = int(d["rows"][n]["gpa"], 16)
    # EPT: indices by hand, 9 bits a level.
    for level, ref in zip((4, 3, 2, 1), row):
        assert ref["dimension"] == "host" and ref["level"] == level
        assert int(ref["address"], 16) % 4096 == (gpa >> (12 + 9 * (level - 1))) % 512 * 8
    for a, b in zip(row[:3], row[1:4]):
        assert int(a["value"], 16) & address == int(b["address"], 16) & ~4095
    hva = int(row[3]["value"], 16) & address | gpa & 4095
    assert hva == int(d["rows"][n]["hva"], 16)
    if n < 4:
        assert int(row[4]["address"], 16) == gpa and int(row[4]["hva"], 16) == hva
        assert int(row[4]["value"], 16) & address == int(d["rows"][n + 1]["gpa"], 16) & ~4095
assert hva == int(d["hva"], 16)
PYTHON
}

@test "walk as text: wide and narrow, plain and in colour" {
    ready
    local width
    for width in 80 100 160; do
        run env COLUMNS=$width LC_ALL=C "$TWOFOLD" walk vm $ADDRESS
        [[ $status -eq 0 && $output != *$'\e'* ]]
        [[ $output == *"24 references = (4 + 1) x (4 + 1) - 1"* ]]
        [[ $output == *"0x0000000000a05678  guest page 4K, rights rwxu"* ]]
        [[ $output == *00a05067* && $output == *"PML4E [0ff]"* && $output == *"PTE [145]"* ]]
        local line
        for line in "${lines[@]}"; do ((${#line} <= width)); done
    done
    # A terminal of 120 columns: the grid has colour, unless NO_COLOR says no.
    run script -qec "stty cols 120; '$TWOFOLD' walk vm $ADDRESS" /dev/null
    [[ $output == *$'\e['* ]]
    run env NO_COLOR=1 script -qec "stty cols 120; '$TWOFOLD' walk vm $ADDRESS" /dev/null
    [[ $output != *$'\e['* && $output == *"24 references"* ]]
}

@test "walk --svg: XML with 24 numbered boxes, on stdout or into a file; a fault is red" {
    ready
    tf walk vm $ADDRESS --svg >"$BATS_TEST_TMPDIR/out.svg"
    run tf walk vm $ADDRESS --svg="$BATS_TEST_TMPDIR/file.svg"
    [[ $status -eq 0 && -z $output ]]
    tf walk vm 0x7ffd12346000 --svg="$BATS_TEST_TMPDIR/fault.svg"
    python3 - "$BATS_TEST_TMPDIR" <<'PYTHON'
import sys, xml.etree.ElementTree as ET
def of(name):
    root = ET.parse(sys.argv[1] + "/" + name).getroot()
    text = list(root.iter("{http://www.w3.org/2000/svg}text"))
    numbers = [t.text for t in text if t.get("class") == "number"]
    red = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("stroke") == "#d02f2f"]
    return numbers, len(red)
for name in "out.svg", "file.svg":
    assert of(name) == ([str(n) for n in range(1, 25)], 0), of(name)
assert of("fault.svg") == ([str(n) for n in range(1, 21)], 1), of("fault.svg")
PYTHON
    run --separate-stderr tf walk vm $ADDRESS --svg=/no/such/folder/x.svg
    refused 1
}

@test "walk: the way an address may be written" {
    ready
    local text
    for text in 0x7ffd12345678 7ffd12345678 0X7FFD12345678 0x7ffd_1234_5678 140724908873336; do
        [[ $(walk_of 'd["gva"]' "$text") == "$ADDRESS" ]]
    done
    for text in "" 0x xyz 7ffd12345678h 0x1_ _1 0x__1 00400000 0x10000000000000000 -1 "1 2" 4K; do
        run --separate-stderr tf walk vm -- "$text"
        refused 2
    done
}

@test "walk rip, rsp: where the vCPU is" {
    need_kvm
    start vm --mem 64M "$KERNELS/spin.elf"
    wait_for grep -q spinning "$BATS_TEST_TMPDIR/vm.out"
    # It set its stack itself; the jump to itself, EB FE, is the last instruction of its text.
    run walk_of 'd["gva"], d["gpa"], d["guest_levels"]' rsp
    [[ $output == "('0x9000', '0x9000', 0)" ]]
    python3 - "$KERNELS/spin.elf" "$(walk_of 'd["gva"]' rip)" <<'PYTHON'
import struct, sys
elf, rip = open(sys.argv[1], "rb").read(), int(sys.argv[2], 16)
wide = elf[4] == 2
phoff, = struct.unpack_from("<Q" if wide else "<I", elf, 32 if wide else 28)
for n in range(struct.unpack_from("<H", elf, 56 if wide else 44)[0]):
    if wide:
        kind, _, offset, _, address, size = struct.unpack_from("<IIQQQQ", elf, phoff + n * 56)
    else:
        kind, offset, _, address, size = struct.unpack_from("<IIIII", elf, phoff + n * 32)
    if kind == 1 and address <= rip < address + size:
        assert elf[offset + rip - address:][:2] == b"\xeb\xfe"
        break
else:
    raise SystemExit("rip is not in the image")
PYTHON
}

@test "walk: bad usage is status 2, what is not there is 1" {
    ready
    local options
    for options in "vm" "vm 0x1 0x2" "vm 0x1 --access rw" "vm 0x1 --cpu 1" "vm 0x1 --cpu 64" \
        "vm 0x1 --cpu x" "vm 0x1 --pid 1 --cr3 0x1000" "vm 0x1 --user --supervisor" \
        "vm 0x1 --svg --json" "vm 0x1 --watch=0" \
        "vm 0x1 --watch=x" "vm 0x1 --no-such" "../vm 0x1" "vm 0x1 --json=x"; do
        # shellcheck disable=SC2086 # words
        run --separate-stderr tf walk $options
        refused 2
    done
    run --separate-stderr tf walk nobody 0x1
    refused 1
    run --separate-stderr tf walk vm 0x1 --pid 7
    refused 1
    [[ $stderr == *"does not tell its processes; use --cr3"* ]]
}

@test "walk: the protocol refuses what the command would not send" {
    ready
    run ask vm '{"command":"walk"}' '{"command":"walk","arguments":{"gva":-1}}' \
        '{"command":"walk","arguments":{"gva":"0x1","access":"q"}}' \
        '{"command":"walk","arguments":{"gva":"0x1","user":1}}' \
        '{"command":"walk","arguments":{"gva":"0x1","pid":0}}' \
        '{"command":"walk","arguments":{"gva":"0x1","cpu":99}}' \
        '{"command":"walk","arguments":{"gva":"0x1","pid":1,"cr3":"0x0"}}' \
        '{"command":"map","arguments":{"of":"hpa"}}' \
        '{"command":"map","arguments":{"first":"0x2000","last":"0x1000"}}'
    [[ ${#lines[@]} -eq 9 && $(grep -c EINVAL <<<"$output") -eq 9 ]]
}

@test "walk of a paused VM leaves it paused, of a running one running" {
    ready
    walk_of 'd["was_running"], d["count"]' $ADDRESS | grep -qx "(True, 24)"
    [[ $(stat_of vm 'd["state"]') == running ]]
    tf pause vm
    walk_of 'd["was_running"], d["count"]' $ADDRESS | grep -qx "(False, 24)"
    [[ $(stat_of vm 'd["state"]') == paused ]]
}

@test "walk populates nothing: resident memory stays what it was" {
    ready
    local before i
    before=$(stat_of vm 'd["memory"]["resident_bytes"]')
    for ((i = 0; i < 20; i++)); do
        tf walk vm "$(printf '0x%x' $((0x7ffd12346000 + i * 0x1000)))" >"$BATS_TEST_TMPDIR/walk"
    done
    tf map vm >"$BATS_TEST_TMPDIR/map"
    [[ $(stat_of vm 'd["memory"]["resident_bytes"]') == "$before" ]]
}

@test "walk with --populate lazy: the same picture, and looking causes no fault" {
    need_kvm
    start vm --populate lazy --backing anon --mem 64M "$KERNELS/walk_4k.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/vm.out"
    [[ $(walk_of 'd["count"], d["gpa"], d["fault"]' $ADDRESS) == "(24, '0xa05678', None)" ]]
    [[ $(walk_of 'd["fault"]["dimension"], d["rows"][-1]["state"]' 0x7ffd1234b678) == "('host', 'untouched')" ]]
    [[ $(walk_of 'd["fault"]["dimension"], d["rows"][-1]["state"]' 0x7ffd1234b678) == "('host', 'untouched')" ]]
}

@test "walk --cpu: another vCPU has paging of its own" {
    ready --cpus 2
    # The second one waits for its start, without paging.
    [[ $(walk_of 'd["guest_levels"], d["gpa"], d["vcpu"]' 0x9000 --cpu 1) == "(0, '0x9000', 1)" ]]
}

@test "walk --watch: a line at the start, and status 0 when the VM ends" {
    ready
    timeout 30 "$TWOFOLD" walk vm $ADDRESS --watch=20ms >"$BATS_TEST_TMPDIR/watch" 3>&- &
    local watch=$!
    wait_for grep -q "gpa 0xa05678 .*start" "$BATS_TEST_TMPDIR/watch"
    sleep 0.3
    [[ $(wc -l <"$BATS_TEST_TMPDIR/watch") -eq 1 ]]
    tf stop vm
    wait "$watch"
    [[ $(wc -l <"$BATS_TEST_TMPDIR/watch") -eq 2 ]]
    grep -q "VM 'vm' ended" "$BATS_TEST_TMPDIR/watch"
    run --separate-stderr tf walk vm $ADDRESS --watch
    refused 1
}

@test "walk --watch: a vCPU between ring 3 and ring 0 is no change" {
    need_kvm
    local guest=${KERNELS%/tests/kernels}/guest.elf
    [[ -r $guest ]] || skip "skipped: $guest is not there"
    # SMAP: its data can be read from ring 3 alone; the timer's ticks find it in either.
    start vm --backing anon --mem 64M "$guest" -- spin
    wait_for tf walk vm --pid 1 0x400000
    local root
    root=$(tf walk vm --json --pid 1 0x400000 | json 'd["root"]')
    timeout 3 "$TWOFOLD" walk vm --cr3 "$root" 0x400000 --watch=5ms >"$BATS_TEST_TMPDIR/watch" 3>&- || true
    [[ $(wc -l <"$BATS_TEST_TMPDIR/watch") -eq 1 ]]
}

@test "walk: a page that is watched for accesses says why it has no frame" {
    need_kvm
    need_root "see frames"
    start vm --backing memfd --mem 64M "$KERNELS/walk_4k.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/vm.out"
    tf stat vm --track accessed --range 0xa05000+4K || skip "skipped: accesses can't be watched here"
    tf stat vm --interval 10ms --range 0xa05000+4K
    run walk_of 'd["hpa"], d["hpa_why"]' $ADDRESS
    [[ $output == "(None, 'watched for accesses: out of the way until the next one')" ]]
}

@test "walk --watch shows a change: the page behind the address is guarded" {
    ready
    timeout 30 "$TWOFOLD" walk vm $ADDRESS --watch=20ms --json >"$BATS_TEST_TMPDIR/watch" 3>&- &
    local watch=$!
    wait_for grep -q gpa "$BATS_TEST_TMPDIR/watch"
    tf guard vm 0xa05000+4K access
    wait_for grep -q guarded "$BATS_TEST_TMPDIR/watch"
    kill "$watch"
    [[ $(tail -n 1 "$BATS_TEST_TMPDIR/watch" | json 'd["fault"]["dimension"], d["gpa"]') == "('host', '0xa05678')" ]]
    [[ $(wc -l <"$BATS_TEST_TMPDIR/watch") -eq 2 ]]
}

@test "walk --pid: the tables of a process that the tiny guest tells, until it ends" {
    need_kvm
    local guest=${KERNELS%/tests/kernels}/guest.elf
    [[ -r $guest ]] || skip "skipped: $guest is not there"
    start vm --backing anon --mem 64M "$guest" -- spin
    wait_for tf walk vm --pid 1 0x400000
    # Programs begin at 4 MiB; the kernel's half is not for them, nor is their code to be written.
    run walk_of 'd["process"], d["pid"], d["tables"], d["fault"], d["rights"][0::3], d["count"]' \
        --pid 1 --user --access x 0x400000
    [[ $output == "('spin', 1, 'process', None, 'ru', 24)" ]]
    # Whichever ring the vCPU is in, a process's address is its own; not so what is asked for.
    local i
    for ((i = 0; i < 20; i++)); do
        [[ $(walk_of 'd["user"], d["fault"]' --pid 1 0x400000) == "(True, None)" ]]
    done
    [[ $(walk_of 'd["user"]' --pid 1 --supervisor 0x400000) == False ]]
    [[ $(walk_of 'd["fault"]["error_code"]' --pid 1 --user --access w 0x400000) == 0x7 ]]
    run --separate-stderr tf walk vm --pid 4711 0x400000
    refused 1
    [[ $stderr == *"no process 4711"* ]]
    run tf map vm --pid 1 --range 4M-8M
    [[ $status -eq 0 && ${lines[1]} == 0x0000000000400000*r-xu* ]]
}

@test "walk: a VM that ends meanwhile is one line and status 1" {
    ready
    (sleep 0.5 && kill "$pid") 3>&- &
    local i
    for ((i = 0; i < 1000; i++)); do
        run --separate-stderr tf walk vm --json $ADDRESS
        [[ $status -eq 0 ]] || break
    done
    refused 1
}
