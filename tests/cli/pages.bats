#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016,SC2030,SC2031 # set by run and start; $@ is for bash
# Population, locked memory and guards, with real guests.

load helper

GUEST=$KERNELS/../../guest.elf

need_uffd() {
    ((EUID == 0)) || [[ $(cat /proc/sys/vm/unprivileged_userfaultfd) == 1 || -r /dev/userfaultfd ]] ||
        skip "skipped: userfaultfd is not permitted"
}

has_thp() {
    grep -qv '\[never\]' /sys/kernel/mm/transparent_hugepage/enabled
}

# pages_of NAME PYTHON-EXPRESSION: of memory.pages, as p, in `stat`.
pages_of() {
    stat_of "$1" "(lambda p: ($2))(d['memory']['pages'])"
}

# --- bad input ------------------------------------------------------------------------------

@test "--populate, --fault-around: bad values, status 2, one line" {
    local bad
    for bad in now lazy: lazy:1 eager:0-0 eager:64M-0 eager:0x-1M eager:0- kernel:0+0 \
        lazy:0xffffffffffffffff+2 lazily; do
        run --separate-stderr tf run --populate "$bad" "$KERNELS/spin.elf"
        refused 2
        [[ $stderr == *"--populate: '"* ]]
    done
    for bad in 0 1K 3K 12K 4M x -4K; do
        run --separate-stderr tf run --fault-around="$bad" "$KERNELS/spin.elf"
        refused 2
    done
    run --separate-stderr tf run --lock=1 "$KERNELS/spin.elf"
    refused 2
}

@test "--populate: a range that is no RAM, unaligned or twice, status 2" {
    need_kvm
    run --separate-stderr tf run --mem 64M --populate eager:0-65M "$KERNELS/spin.elf"
    refused 2
    [[ $stderr == *"is not RAM as a whole; RAM is 0x0-0x4000000"* ]]
    run --separate-stderr tf run --populate eager:1-4096 "$KERNELS/spin.elf"
    refused 2
    run --separate-stderr tf run --populate eager:0-1M --populate lazy:1020K+8K "$KERNELS/spin.elf"
    refused 2
    [[ $stderr == *"overlaps"* ]]
    # The hole below 4 GiB.
    run --separate-stderr tf run --mem 4G --populate eager:3071M-3073M "$KERNELS/spin.elf"
    refused 2
    run --separate-stderr tf run --lock --populate lazy "$KERNELS/spin.elf"
    refused 2
}

@test "no right to userfaultfd: one line that says what to do, status 1" {
    need_kvm
    need_root "give up its rights"
    [[ $(cat /proc/sys/vm/unprivileged_userfaultfd) == 0 ]] || skip "skipped: everybody may use it"
    # No capabilities, and no /dev/userfaultfd.
    unshare -m true 2>/dev/null || skip "skipped: no mount namespaces here"
    run --separate-stderr unshare -m bash -c '
        kvm=$(mktemp) && mount --bind /dev/kvm "$kvm" && mount -t tmpfs none /dev &&
        touch /dev/kvm && mount --bind "$kvm" /dev/kvm && mknod -m 666 /dev/null c 1 3 &&
        exec setpriv --bounding-set -all --inh-caps -all "$@"' - \
        "$TWOFOLD" run --populate lazy "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"userfaultfd is not permitted"*"vm.unprivileged_userfaultfd=1"* ]]
}

@test "--lock above the limit: one line with the limit that is needed, status 1" {
    need_kvm
    need_root "give up CAP_IPC_LOCK"
    run --separate-stderr bash -c 'ulimit -l 1024 && exec setpriv --bounding-set -ipc_lock \
        --inh-caps -ipc_lock "$@"' - "$TWOFOLD" run --lock --mem 64M "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"65536 KiB"*"ulimit -l 65536"* ]]
}

# --- guests ----------------------------------------------------------------------------------

@test "the whole guest passes its tests however its memory is populated" {
    need_kvm
    need_uffd
    local how backing
    for how in "--populate lazy" "--populate eager" "--lock"; do
        for backing in anon thp memfd; do
            [[ $backing != thp ]] || has_thp || continue
            # shellcheck disable=SC2086 # two words
            run --separate-stderr tf run $how --backing "$backing" --cpus 2 "$GUEST"
            [[ $status -eq 0 ]]
            [[ $output == *" passed, 0 failed"* ]]
        done
    done
}

@test "lazy: each window of touched memory is one message, and the map says what is there" {
    need_kvm
    need_uffd
    start lazy --populate lazy --backing anon --mem 64M "$KERNELS/spin.elf"
    run pages_of lazy "p['ranges'] == [{'base': '0x0', 'size': 64 << 20, 'populate': 'lazy',
        'managed': True}] and p['learned']"
    [[ $output == True ]]
    # What is mapped is what the map says, to the byte; all of it came by messages.
    run stat_of lazy "d['memory']['resident_bytes'] == d['memory']['pages']['present']['4K']"
    [[ $output == True ]]
    run pages_of lazy "0 < p['faults']['missing'] < 40 and
        p['states']['present'] + p['states']['zero'] ==
        4096 * p['faults']['missing'] + p['faults']['around_bytes'] - 4096 * p['faults']['spurious']"
    [[ $output == True ]]
    run pages_of lazy "sum(p['states'].values())"
    [[ $output == $((64 << 20)) ]]
}

@test "lazy: hugetlb comes by whole pages" {
    need_kvm
    need_root "add huge pages"
    need_uffd
    local pool=/sys/kernel/mm/hugepages/hugepages-2048kB
    [[ -w $pool/nr_hugepages ]] || skip "skipped: this host has no huge pages of 2 MiB"
    local before
    before=$(<$pool/nr_hugepages)
    echo $((before + 16)) >$pool/nr_hugepages
    if (($(<$pool/free_hugepages) < 16)); then
        echo "$before" >$pool/nr_hugepages
        skip "skipped: this host can't give 16 huge pages now"
    fi
    run tf run --populate lazy --backing hugetlb-2m --mem 32M "$GUEST" -- hello
    local rc=$status
    start huge --populate lazy --backing hugetlb-2m --mem 32M "$KERNELS/spin.elf"
    run pages_of huge "p['present']['2M'] == 2097152 * p['faults']['huge'] > 0 and
        p['present']['4K'] == 0"
    tf stop huge
    wait "$pid" || true
    echo "$before" >$pool/nr_hugepages
    [[ $rc -eq 0 && $output == True ]]
}

@test "mixed: a part is there at the start, the rest comes by faults" {
    need_kvm
    need_uffd
    start mixed --populate lazy --populate eager:32M-48M --backing anon --mem 64M "$KERNELS/spin.elf"
    run pages_of mixed "p['populated']['bytes'], [r['managed'] for r in p['ranges']],
        p['states']['present'] >= 16 << 20, p['states']['untouched'] > 40 << 20"
    [[ $output == "($((16 << 20)), [True, False, True], True, True)" ]]
}

faulted() {
    [[ $(stat_of "$1" "d['vcpus'][0]['host_faults']['minor'] > 1000") == True ]]
}

@test "--lock: all of memory is there and locked, and no vCPU ever faults at the host" {
    need_kvm
    ((EUID == 0)) || [[ $(ulimit -l) == unlimited ]] || skip "skipped: may not lock memory"
    grep -q __asan_init "$TWOFOLD" && skip "skipped: ASan makes mlockall() a no-op"
    "$TWOFOLD" run --name locked --lock --backing anon --mem 128M --timeout 60 "$GUEST" -- \
        touch 64M 100000000 </dev/null >/dev/null 2>&1 3>&- &
    vm_pids+=($!)
    wait_for "$TWOFOLD" stat locked
    sleep 1 # it writes 64 MiB meanwhile
    run stat_of locked "d['memory']['resident_bytes'], d['memory']['pages']['locked_bytes'],
        d['vcpus'][0]['host_faults']"
    [[ $output == "($((128 << 20)), $((128 << 20)), {'minor': 0, 'major': 0})" ]]
    # The same guest without it does fault: the counter is no constant.
    "$TWOFOLD" run --name free --backing anon --mem 128M --timeout 60 "$GUEST" -- \
        touch 64M 100000000 </dev/null >/dev/null 2>&1 3>&- &
    vm_pids+=($!)
    wait_for faulted free
}

@test "a signal while memory is populated ends that" {
    need_kvm
    local status=0
    (($(awk '/MemAvailable/ { print $2 }' /proc/meminfo) > 6 << 20)) ||
        skip "skipped: needs 6 GiB of free memory to populate"
    timeout 0.15 "$TWOFOLD" run --populate eager --backing anon --mem 4G "$KERNELS/spin.elf" \
        2>"$BATS_TEST_TMPDIR/err" </dev/null &
    wait $! || status=$?
    # timeout(1) says 124 whatever the status was: the line tells.
    [[ $status -eq 124 && $(<"$BATS_TEST_TMPDIR/err") == *"ended while its memory was populated"* ]]
}

# --- guards ------------------------------------------------------------------------------------

# busy NAME [OPTIONS]: a guest that writes to 64 MiB for ever; returns once it does.
busy() {
    local name=$1
    shift
    "$TWOFOLD" run --name "$name" --timeout 60 "$@" "$GUEST" -- touch 64M 100000000 </dev/null \
        >"$BATS_TEST_TMPDIR/$name.out" 2>"$BATS_TEST_TMPDIR/$name.err" 3>&- &
    pid=$!
    vm_pids+=("$pid")
    wait_for "$TWOFOLD" stat "$name"
    wait_for resident "$name"
}

resident() {
    [[ $(stat_of "$1" "d['memory']['resident_bytes'] > 60 << 20") == True ]]
}

@test "guard access: the guest's next access ends it with a line that names it, status 127" {
    need_kvm
    local backing rc
    for backing in anon memfd; do
        busy "$backing" --backing "$backing"
        tf guard "$backing" 24M-56M access
        rc=0
        wait "$pid" || rc=$?
        [[ $rc -eq 127 ]]
        grep -qE "^twofold: vCPU 0 can't go on: guarded memory: (write|read) at gpa 0x[0-9a-f]+, rip 0x[0-9a-f]+$" \
            "$BATS_TEST_TMPDIR/$backing.err"
        local at
        at=$(grep -oE 'at gpa 0x[0-9a-f]+' "$BATS_TEST_TMPDIR/$backing.err" | head -1)
        ((${at##* } >= 24 << 20 && ${at##* } < 56 << 20))
    done
}

@test "guard: off restores, nodump leaves the guest alone, stat shows both" {
    need_kvm
    busy on --backing anon
    tf pause on
    tf guard on 24M-56M access
    tf guard on 2M+4K nodump
    run pages_of on "p['guards'], p['states']['guarded']"
    [[ $output == "([{'base': '0x1800000', 'size': $((32 << 20))}], $((32 << 20)))" ]]
    tf guard on 24M+32M off
    run pages_of on "p['guards'], p['states']['guarded']"
    [[ $output == "([], 0)" ]]
    tf resume on
    sleep 0.2
    [[ $(stat_of on "d['state']") == running ]]
    grep -q "^VmFlags:.* dd" "/proc/$pid/smaps"
}

@test "guard: bad input" {
    need_kvm
    start bad --mem 64M "$KERNELS/spin.elf"
    local args
    for args in "bad 0-64M" "bad 0-64M never" "bad 0-65M access" "bad 64M+4K access" "bad 1+4K off" \
        "bad 0+1 nodump" "bad 0 access" "bad 0-4K access more" "bad --what 0-4K off"; do
        # shellcheck disable=SC2086 # words
        run --separate-stderr tf guard $args
        refused 2
    done
    run --separate-stderr tf guard bad 0-4K $'\xff'
    refused 2
    [[ $stderr == *"guard '?' is unknown"* ]]
    run --separate-stderr tf guard bad 0x0x0-0x1000 off
    refused 2
    run --separate-stderr tf guard bad 0xfffffffffffff000+0x1000 off
    refused 2
    [[ $stderr == *"0xfffffffffffff000+0x1000"* ]]
    run --separate-stderr tf guard nobody 0-4K off
    refused 1
    run ask bad '{"command":"guard","arguments":{"base":0,"size":4096}}' \
        '{"command":"guard","arguments":{"base":-1,"size":4096,"mode":"off"}}' \
        '{"command":"guard","arguments":{"base":"0","size":4096,"mode":7}}' \
        '{"command":"guard","arguments":{"base":0,"size":"0xfffffffffffff000","mode":"access"}}' \
        '{"command":"guard","arguments":{"base":"0x0x0","size":4096,"mode":"off"}}' \
        '{"command":"guard"}'
    [[ ${#lines[@]} -eq 6 ]]
    local line
    for line in "${lines[@]}"; do
        [[ $line == *'"ok":false'*EINVAL* ]]
    done
    [[ $(stat_of bad "d['state']") == running ]]
}
