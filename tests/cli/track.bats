#!/usr/bin/env bats
# shellcheck disable=SC2154 # status, stderr and pid are set by run and start
# Pages: what is accessed and dirty against a kernel whose pages are known; NUMA placement; bad input.

load helper

# track_pages.S writes 37 pages again and again, reads 11, and runs in one.
WRITTEN=$((37 * 4096))
TOUCHED=$(((37 + 11 + 1) * 4096))

# toucher NAME OPTIONS...: that kernel, once it is in its loop
toucher() {
    local name=$1
    start "$@" --mem 64M "$KERNELS/track_pages.elf"
    wait_for grep -q touching "$BATS_TEST_TMPDIR/$name.out"
}

# pages NAME PYTHON-EXPRESSION [OPTIONS...]
pages() {
    local name=$1 expression=$2
    shift 2
    tf stat --pages --json "$@" "$name" | json "$expression"
}

# Watches accesses, or skips where this host can't.
watches() {
    run --separate-stderr tf stat --track accessed --interval 100ms "$1"
    [[ $stderr != *"can't be told on this kernel"* ]] || skip "skipped: ${stderr#*: }"
    [[ $stderr != *"userfaultfd is not permitted"* ]] || skip "skipped: ${stderr#*: }"
    [[ $status -eq 0 ]]
}

@test "dirty: exactly the pages that the guest writes, each time" {
    need_kvm
    toucher dirty --backing anon
    local time
    for time in 200ms 300ms 0.4; do
        [[ $(pages dirty 'd["dirty"]["bytes"]' --track dirty --interval "$time") == "$WRITTEN" ]]
    done
    # Half of them, by the range; none where it reads.
    [[ $(pages dirty 'd["dirty"]["bytes"]' --range 8M+0x14000) == $((10 * 4096)) ]]
    [[ $(pages dirty 'd["dirty"]["bytes"]' --range 12M+1M) == 0 ]]
    # Where they are: 74 pages from 8 MiB on, every second one.
    [[ $(pages dirty '[i for i, b in enumerate(d["cells"]["dirty"]) if b]') == "[8]" ]]
    [[ $(pages dirty 'd["accessed"]["on"], d["dirty"]["on"]') == "(False, True)" ]]
    # Off is off, and the guest goes on as before.
    [[ $(pages dirty 'd["dirty"]["on"], d["dirty"]["bytes"]' --track off) == "(False, 0)" ]]
    [[ $(stat_of dirty 'd["state"]') == running ]]
}

@test "dirty: huge pages of the host stay, and the pages are exact" {
    need_kvm
    grep -q '\[never\]' /sys/kernel/mm/transparent_hugepage/enabled &&
        skip "skipped: no transparent huge pages on this host"
    toucher huge --backing thp
    [[ $(pages huge 'd["dirty"]["bytes"], d["present"]["2M"] > 0, d["present"]["4K"]' \
        --track dirty --interval 300ms) == "($WRITTEN, True, 0)" ]]
}

@test "accessed: exactly the pages that the guest touches (memfd)" {
    need_kvm
    toucher shared --backing memfd
    watches shared
    [[ $(pages shared 'd["accessed"]["bytes"], d["accessed"]["kept_bytes"]' \
        --track accessed --interval 300ms) == "($TOUCHED, 0)" ]]
    [[ $(pages shared 'd["accessed"]["method"]') == *"minor faults"* ]]
    [[ $(pages shared '[r["managed"] for r in d["ranges"]]') == "[True]" ]]
    # Both at once. KVM may count a page as dirty that it mapped for a read: never one that was not touched.
    [[ $(pages shared "d['accessed']['bytes'], $WRITTEN <= d['dirty']['bytes'] <= $TOUCHED" \
        --track accessed,dirty --interval 300ms) == "($TOUCHED, True)" ]]
    [[ $(pages shared 'd["accessed"]["bytes"]' --range 12M+1M) == $((11 * 4096)) ]]
    [[ $(pages shared 'd["accessed"]["on"], d["accessed"]["watched_bytes"]' --track off) == "(False, 0)" ]]
    [[ $(stat_of shared 'd["state"]') == running ]]
}

@test "accessed: anonymous memory by moved pages, or one line that says what to do" {
    need_kvm
    toucher anon --backing anon
    run --separate-stderr tf stat --track accessed --interval 300ms anon
    if [[ $stderr == *"can't be told on this kernel"* ]]; then
        refused 1
        [[ $stderr == *"use --backing memfd"* ]]
        return
    fi
    [[ $status -eq 0 ]]
    [[ $(pages anon 'd["accessed"]["bytes"]' --track accessed --interval 300ms) == "$TOUCHED" ]]
    # A paused guest touches nothing, and nothing of it is lost.
    tf pause anon
    [[ $(pages anon 'd["accessed"]["bytes"]' --interval 100ms) == 0 ]]
    tf resume anon
    [[ $(pages anon 'd["accessed"]["bytes"]' --interval 300ms) == "$TOUCHED" ]]
    tf stat --track off anon
    [[ $(stat_of anon 'd["state"]') == running ]]
}

@test "accessed: the tiny guest's own checks pass while all its pages come and go" {
    need_kvm
    start storm --backing memfd --cpus 2 "$(dirname "$KERNELS")/../guest.elf" -- storm 24
    local vm=$pid
    run --separate-stderr tf stat --track accessed storm
    [[ $stderr != *"userfaultfd is not permitted"* ]] || skip "skipped: ${stderr#*: }"
    while kill -0 "$vm" 2>/dev/null; do
        tf stat --interval 20ms storm >/dev/null 2>&1 || true
    done
    wait "$vm"
    run ! grep -q "check failed" "$BATS_TEST_TMPDIR/storm.out"
}

@test "accessed: pages that stay where they are, are refused" {
    need_kvm
    start locked --mem 16M --backing memfd --lock "$KERNELS/spin.elf"
    run --separate-stderr tf stat --track accessed locked
    refused 1
    [[ $stderr == *"--lock"* ]]
}

@test "bad input: words, ranges, nothing to wait for" {
    need_kvm
    start bad --mem 64M "$KERNELS/spin.elf"
    run --separate-stderr tf stat --track written bad
    refused 2
    run --separate-stderr tf stat --track $'\xff' bad
    refused 2
    [[ $stderr == *"'?' can't be tracked"* ]]
    run --separate-stderr tf stat --track off,dirty bad
    refused 2
    run --separate-stderr tf stat --interval 1s bad
    refused 2
    [[ $stderr == *"--track"* ]]
    run --separate-stderr tf stat --interval never bad
    refused 2
    run --separate-stderr tf stat --range 1G+4K bad
    refused 2
    [[ $stderr == *"no RAM"* ]]
    run --separate-stderr tf stat --range 1+4K bad
    refused 2
    run --separate-stderr tf stat --pages
    refused 2
    run --separate-stderr tf stat --pages nobody
    refused 1
    run ask bad '{"command":"track","arguments":{"cells":0}}' \
        '{"command":"track","arguments":{"base":"0x1000","size":0}}' \
        '{"command":"track","arguments":{"base":"0xfffffffffffff000","size":8192}}' \
        '{"command":"track","arguments":{"what":1}}' '{"command":"track","arguments":{"what":""}}'
    [[ $(grep -c EINVAL <<<"$output") -eq 4 && $(tail -n 1 <<<"$output") == '{"ok":true'* ]]
}

@test "states: untouched memory is untouched, what is touched has its true size" {
    need_kvm
    start states --mem 64M --backing anon "$KERNELS/spin.elf"
    tf stat --pages --json states >"$BATS_TEST_TMPDIR/pages"
    run json 'sum(d["states"].values()) == 64 << 20, d["present"]["4K"] == d["states"]["present"],
        0 < d["states"]["present"] < 1 << 20, d["look"]["learned"],
        sum(d["cells"]["present"]) == d["states"]["present"], len(d["cells"]["present"])' \
        <"$BATS_TEST_TMPDIR/pages"
    [[ $output == "(True, True, True, True, True, 64)" ]]
    run tf stat --pages states
    [[ $output == *untouched* && $output == *"not tracked: --track dirty"* ]]
}

# --- NUMA -----------------------------------------------------------------------------------------

@test "numa: all policies on node 0; what stat shows adds up" {
    need_kvm
    [[ -r /proc/self/numa_maps ]] || skip "skipped: this kernel knows no NUMA"
    local policy
    for policy in local bind:0 interleave:0 preferred:0 bind:0=0-8M; do
        start "numa-${policy%%[:=]*}-$RANDOM" --mem 16M --backing anon --numa "$policy" "$KERNELS/spin.elf"
    done
    start numa --mem 16M --backing anon --numa bind:0 "$KERNELS/spin.elf"
    [[ $(stat_of numa '[n["node"] for n in d["memory"]["nodes"] if n["bytes"]]') == "[0]" ]]
    [[ $(stat_of numa 'sum(n["bytes"] for n in d["memory"]["nodes"]) == d["memory"]["resident_bytes"]') == True ]]
    run tf stat numa
    [[ $output == *"node 0:"* ]]
}

@test "numa: libnuma is loaded for --numa alone, and missing it is said in a line" {
    need_kvm
    [[ -r /proc/self/numa_maps ]] || skip "skipped: this kernel knows no NUMA"
    mkdir "$BATS_TEST_TMPDIR/broken"
    : >"$BATS_TEST_TMPDIR/broken/libnuma.so.1"
    export LD_LIBRARY_PATH=$BATS_TEST_TMPDIR/broken
    run --separate-stderr tf run --mem 16M --numa bind:0 "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"libnuma.so.1"*"install the Debian package libnuma1" ]]
    start without --mem 16M "$KERNELS/spin.elf"
    run tf stat without
    [[ $status -eq 0 && $output == *"node"* ]]
}

@test "numa: nodes that are not there, ranges that are no RAM, words that are none" {
    need_kvm
    [[ -r /proc/self/numa_maps ]] || skip "skipped: this kernel knows no NUMA"
    local bad
    for bad in bind:63 interleave:0,62-63 preferred:63; do
        run --separate-stderr tf run --mem 16M --numa "$bad" "$KERNELS/spin.elf"
        refused 2
        [[ $stderr == *"there is no node"*"this host has"* ]]
    done
    for bad in '' bind bind: bind:x bind:0- bind:1-0 bind:64 local:0 preferred:0,1 first:0 bind:0=16M-32M \
        bind:0=1-2 bind:0=; do
        run --separate-stderr tf run --mem 16M --numa "$bad" "$KERNELS/spin.elf"
        refused 2
    done
}
