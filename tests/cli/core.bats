#!/usr/bin/env bats
# The core as a guest sees it, and what a person sees when a guest ends badly:
# tests/kernels on /dev/kvm, docs/exits.md.

load helper

# shellcheck disable=SC2154 # set by run
# passes NAME [OPTIONS...]: it ends with PASS and status 0.
passes() {
    local name=$1
    shift
    run --separate-stderr tf run --timeout 30 "$@" "$KERNELS/$name.elf"
    [[ $status -eq 0 && ${lines[-1]} == PASS ]] || {
        echo "$name: status $status, '$output', '$stderr'" >&2
        return 1
    }
}

# crashes NAME: status 127; its dump is in $stderr.
crashes() {
    run -127 --separate-stderr tf run --timeout 30 "$KERNELS/$1.elf"
    [[ $status -eq 127 && $output == crash ]] || {
        echo "$1: status $status, '$output', '$stderr'" >&2
        return 1
    }
}

# total SED-EXPRESSION FILE: the sum of the numbers that it prints.
total() {
    sed -n "$1" "$2" | awk '{ sum += $1 } END { print sum + 0 }'
}

# Nanoseconds of each vCPU inside of KVM_RUN.
run_ns() {
    stat_of "$1" '[v["run_ns"] for v in d["vcpus"]]'
}

runs_again() {
    [[ $(run_ns "$1") != "$2" ]]
}

@test "reads and writes where nothing is" {
    need_kvm
    passes bus_nowhere
}

@test "string I/O in both directions, all sizes" {
    need_kvm
    passes string_io
    [[ $output == $'forward\nbackwards\nPASS' ]]
}

@test "the interval timer comes to life on its first access" {
    need_kvm
    passes pit
}

@test "INIT and SIPI start every CPU, each with its APIC id" {
    need_kvm
    local cpus
    for cpus in 1 2 3 8 64; do
        run --separate-stderr tf run --timeout 50 --cpus "$cpus" "$KERNELS/smp_start.elf" -- "$cpus"
        [[ $status -eq 0 && ${lines[0]} == "$(printf 'started %08x' $((cpus - 1)))" ]]
    done
}

@test "the dump of a triple fault: reason, registers, code at rip, exits" {
    need_kvm
    crashes crash_triple
    # shellcheck disable=SC2154 # set by run
    [[ ${stderr_lines[0]} == "twofold: vCPU 0 can't go on: triple fault"* ]]
    # The state after a shutdown is KVM's choice on AMD; where it is kept, rip is at UD2.
    [[ $stderr == *" <0f> 0b "*"instruction at rip: ud2"* || $stderr == *"real mode"* ]]
    [[ $stderr == *"gdt base"*"cr0 "*"efer"* ]]
    [[ $stderr == *"pio out 0x3f8 size=1 count=1 value=0x63"* ]]
    [[ $stderr == *" us shutdown"* ]]
}

@test "the dump of a page fault walks cr2 to the entry that is missing" {
    need_kvm
    crashes crash_paged
    [[ $stderr == *"real mode"* ]] && skip "skipped: this KVM resets a vCPU after a triple fault"
    # The tables are the kernel's .bss; 0xc0401234 is entry 3 of the PDPT.
    local tables walk
    tables=$(nm "$KERNELS/crash_paged.elf" | awk '$3 == "pml4" { print $1 }')
    walk=$(sed -n '/walk of cr2 00000000c0401234 (4-level)/,$p' <<<"$stderr")
    [[ $(sed -n 2p <<<"$walk") == *"PML4E at 00$tables"* ]]
    [[ $(sed -n 3p <<<"$walk") == *"PDPTE at 00$(printf '%08x' $((16#$tables + 0x1018))) = 0000000000000000" ]]
    [[ $(sed -n 4p <<<"$walk") == *"not present" ]]
}

@test "the dump of an instruction that KVM can't emulate" {
    need_kvm
    crashes crash_emulation
    [[ $stderr == *"internal error 1"* && $stderr == *" 0f 38 00 05 00 00 00 d0"* ]]
    [[ $stderr == *"instruction at rip: pshufb xmm0, [0xd0000000]"* ]]
}

@test "a jump to where no RAM is" {
    need_kvm
    crashes crash_jump
    [[ $stderr == *"<-->"* && $stderr == *"rip is gpa d0000000, which is no RAM"* ]]
    [[ $stderr != *"instruction at rip"* ]]
}

@test "a trace line has the documented fields" {
    need_kvm
    local trace=$BATS_TEST_TMPDIR/trace
    run tf run --timeout 30 --trace="$trace" "$KERNELS/string_io.elf"
    [[ $status -eq 0 ]]
    run ! grep -vE '^[0-9]+\.[0-9]{6} cpu0 (signal rip=0x[0-9a-f]+|pio rip=0x[0-9a-f]+ (in|out) 0x[0-9a-f]+ size=[124] count=[0-9]+ value=0x[0-9a-f]+(,0x[0-9a-f]+)*(,\.\.\.)?( unclaimed)?)$' "$trace"
    # Every byte of the two lines that go through REP OUTSB, and of PASS: 8 + 10 + 5.
    [[ $(total 's/.* out 0x3f8 size=1 count=\([0-9]*\) .*/\1/p' "$trace") -eq 23 ]]
    # 5000 reads of the line status, in few exits.
    [[ $(total 's/.* in 0x3fd size=1 count=\([0-9]*\) .*/\1/p' "$trace") -eq 5000 ]]
    [[ $(grep -c ' in 0x3fd ' "$trace") -le 50 ]]
    # 1000 writes to a port without a device.
    [[ $(total 's/.* out 0x1234 size=4 count=\([0-9]*\) .* unclaimed$/\1/p' "$trace") -eq 1000 ]]
}

@test "a paused vCPU spends no time in the guest" {
    need_kvm
    local before after
    start still --cpus 2 "$KERNELS/spin.elf"
    tf pause still
    before=$(run_ns still)
    sleep 0.2
    after=$(run_ns still)
    [[ -n $before && $before == "$after" ]]
    tf pause still # fine a second time
    tf resume still
    wait_for runs_again still "$before"
    tf stop still
}
