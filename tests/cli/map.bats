#!/usr/bin/env bats
# twofold map: the runs of tests/kernels/walk.inc's tables, which are known, and of RAM.

load helper

ready() {
    need_kvm
    start vm --backing anon --mem 64M "$@" "$KERNELS/walk_4k.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/vm.out"
}

# map_of PYTHON-EXPRESSION OPTIONS...
map_of() {
    local expression=$1
    shift
    tf map --json vm "$@" | json "$expression"
}

runs='[(r["start"], r["size"], r["page"], r["rights"], r["gpa"]) for r in d["runs"]]'

@test "map: the runs that the kernel's tables make, and no others" {
    ready
    # The first 16 MiB by 2M pages; then five pages of 4K, each with rights of its own. Entry 0x14a
    # has a reserved bit set, and 0x092 of the PD refers to no RAM: two that are broken.
    run map_of "$runs" --range 0-0x7fffffffffff
    [[ $output == "[('0x0', 16777216, 2097152, 'rwx-', '0x0'), \
('0x7ffd12345000', 4096, 4096, 'rwxu', '0xa05000'), \
('0x7ffd12347000', 4096, 4096, 'r-xu', '0xa07000'), \
('0x7ffd12348000', 4096, 4096, 'rw-u', '0xa08000'), \
('0x7ffd12349000', 4096, 4096, 'rwx-', '0xa09000'), \
('0x7ffd1234b000', 4096, 4096, 'rwxu', '0xe00000')]" ]]
    run map_of 'd["scanned"]["broken"], d["totals"], d["format"], d["root"]' --range 0-0x7fffffffffff
    [[ $output == "(2, {'2M pages': 16777216, '4K pages': 20480}, '4-level', '0x800000')" ]]
}

@test "map: the upper half, where the tables see themselves" {
    ready
    # Entry 0x100 of the root is the root: every table appears there as a page.
    run map_of 'sorted({int(r["gpa"], 16) for r in d["runs"] if int(r["start"], 16) >> 63
        and int(r["start"], 16) >= 0xffff804020100000 and int(r["start"], 16) < 0xffff804020101000})'
    [[ $output == "[8388608]" ]]
    run map_of 'all(int(r["start"], 16) < 1 << 47 or int(r["start"], 16) >= (1 << 64) - (1 << 47) for r in d["runs"])'
    [[ $output == True ]]
}

@test "map --range: whole pages, both ways to write it, large pages cut" {
    ready
    local range
    for range in 0x7ffd12346000-0x7ffd12348000 0x7ffd12346001-0x7ffd12347fff 0x7ffd12346000+8K \
        0x7ffd12346000+0x2000; do
        run map_of "$runs" --range "$range"
        [[ $output == "[('0x7ffd12347000', 4096, 4096, 'r-xu', '0xa07000')]" ]]
    done
    run map_of "$runs" --range 0x3ff000+8K
    [[ $output == "[('0x3ff000', 8192, 2097152, 'rwx-', '0x3ff000')]" ]]
    run map_of 'd["runs"], d["totals"]' --range 0x10000000+1M
    [[ $output == "([], {})" ]]
}

@test "map --ad: pages that were written stand apart" {
    ready
    # Of the first 16 MiB the CPU used the 2M page of the code (at 2M) only.
    run map_of 'len(d["runs"]), [(r["start"], r["size"]) for r in d["runs"]
        if "A" in r["flags"]]' --ad --range 0-16M
    [[ $output == "(3, [('0x200000', 2097152)])" ]]
    run map_of 'len(d["runs"])' --range 0-16M
    [[ $output == 1 ]]
}

@test "map --gpa: RAM as the host has it; untouched and present pages add up" {
    ready
    run map_of 'sum(d["totals"].values()), d["runs"][0]["start"], d["runs"][-1]["last"],
        sorted({r["state"] for r in d["runs"]} - {"zero"}), {r["backing"] for r in d["runs"]}' --gpa
    [[ $output == "(67108864, '0x0', '0x3ffffff', ['present', 'untouched'], {'anon'})" ]]
    # The tables and the page that the kernel wrote, and the one that nobody touched.
    run map_of '[(r["state"], r["size"], r["page"]) for r in d["runs"]]' --gpa --range 0x800000+24K
    [[ $output == "[('present', 24576, 4096)]" ]]
    run map_of '[(r["state"], r["page"]) for r in d["runs"]]' --gpa --range 0xe00000+4K
    [[ $output == "[('untouched', None)]" ]]
    # What is present is what the host says is resident.
    [[ $(map_of 'sum(r["size"] for r in d["runs"] if r["state"] == "present")' --gpa) == \
        $(stat_of vm 'd["memory"]["resident_bytes"]') ]]
}

@test "map --gpa: hva is gpa plus the same everywhere" {
    ready
    run map_of 'len({int(r["hva"], 16) - int(r["start"], 16) for r in d["runs"]})' --gpa
    [[ $output == 1 ]]
}

@test "map: a range outside of RAM, or that no address of the format has" {
    ready
    run --separate-stderr tf map vm --gpa --range 0x4000000+4K
    refused 2
    [[ $stderr == *"is no RAM of this VM"* ]]
    run map_of '[(r["start"], r["size"], r["state"]) for r in d["runs"]][-1]' --gpa --range 0x3fff000+8K
    [[ $output == "('0x4000000', 4096, 'no RAM')" ]]
    run --separate-stderr tf map vm --range 0x800000000000+4K
    refused 2
    [[ $stderr == *"4-level paging does not"* ]]
}

@test "map: bad usage" {
    ready
    local options
    for options in "" "vm other" "vm --range 1" "vm --range 2-1" "vm --range 1+0" "vm --range x-y" \
        "vm --range 0xffffffffffffffff+8K" "vm --pid 1 --cr3 0" "vm --gva --gpa" "vm --gpa --pid 1" "vm --gpa --cr3 0" \
        "vm --cpu 1" "vm --no-such"; do
        # shellcheck disable=SC2086 # words
        run --separate-stderr tf map $options
        refused 2
    done
    run --separate-stderr tf map nobody
    refused 1
    run --separate-stderr tf map vm --pid 7
    refused 1
}

@test "map as text: a head, a line a run, a total" {
    ready
    run tf map vm --range 0-0x7fffffffffff
    [[ $status -eq 0 && ${#lines[@]} -eq 8 && ${lines[0]} == FIRST* ]]
    [[ ${lines[3]} == "0x00007ffd12347000 0x00007ffd12347fff"*"4 KiB"*4K*r-xu*0x0000000000a07000* ]]
    [[ ${lines[7]} == "total: 6 runs: 2M pages 16 MiB, 4K pages 20 KiB; 4-level"*"2 entries"* ]]
    run tf map vm --gpa
    [[ $status -eq 0 && ${lines[0]} == FIRST*STATE* && ${lines[-1]} == "total: "*"untouched"* ]]
}

@test "map: paging off says so" {
    need_kvm
    start vm --mem 64M "$KERNELS/spin.elf"
    run tf map vm
    [[ $status -eq 0 && $output == "paging is off: a gva is the gpa; see --gpa" ]]
}

@test "map: a guest with more runs than one reply takes is told to its end" {
    need_kvm
    start vm --backing anon --mem 64M "$KERNELS/walk_runs.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/vm.out"
    # 16 tables of 512 pages, every other one present: 4096 runs, which is two replies.
    run map_of 'len(d["runs"]), {r["size"] for r in d["runs"]},
        {int(b["start"], 16) - int(a["start"], 16) for a, b in zip(d["runs"], d["runs"][1:])}' --range 0x7ffd10000000+32M
    [[ $output == "(4096, {4096}, {8192})" ]]
}

@test "map: tables that refer to themselves for ever end" {
    need_kvm
    start vm --backing anon --mem 64M "$KERNELS/walk_loop.elf"
    wait_for grep -q ready "$BATS_TEST_TMPDIR/vm.out"
    # All of the root's entries but three are the root, so there are 2^36 pages. A reply is bounded.
    run ask vm '{"command":"map","arguments":{"of":"gva"}}'
    [[ $(json 'd["ok"], len(d["result"]["runs"]) <= 2048, d["result"]["next"] is not None,
        d["result"]["scanned"]["tables"] < 100000' <<<"$output") == "(True, True, True, True)" ]]
    run map_of 'len(d["runs"]), d["runs"][0]["size"]' --range 0x8040201000+64K
    [[ $output == "(16, 4096)" ]]
}
