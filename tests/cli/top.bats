#!/usr/bin/env bats
# top: as text, and on a terminal of its own.

load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}

on_terminal() {
    timeout 60 python3 "$BATS_TEST_DIRNAME/terminal.py" "$@"
}

@test "top --once: the VM, its vCPUs, its memory and its processes as text" {
    need_kvm
    start vm --cpus 2 --mem 64M --backing anon --append "stay 8M 20" "$GUEST"
    wait_for grep -q keeps "$BATS_TEST_TMPDIR/vm.out"
    run tf top --once vm
    [[ $status -eq 0 && ${lines[0]} == "vm  running  up "* ]]
    [[ $output == *"memory 64 MiB anon"* && $output == *"1  0x"*"stay"* ]]
    # Both vCPUs are in the guest all the time; an eighth of RAM and a little is present.
    [[ $(grep -c '\[#\{10,\}.*[0-9] %' <<<"$output") -eq 2 ]]
    local strip
    strip=$(grep '^  |.*|$' <<<"$output")
    [[ ${strip//[^@]/} != "" && ${strip// /} != "$strip" ]]
    tf pause vm
    run tf top --once
    [[ $status -eq 0 && ${lines[0]} == "vm  paused"* && $output == *"  0.0 %"* ]]
}

@test "top: q leaves, p pauses, the terminal is as before" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    export TERM=xterm
    run on_terminal "expect:q quit" "send:p" "expect:paus" "send:p" "expect:runn" "send:q" -- \
        "$TWOFOLD" top vm
    [[ $output == *"terminal restored"*"status 0" ]]
    [[ $(stat_of vm 'd["state"]') == running ]]
}

@test "top ends with the VM, and with a signal" {
    need_kvm
    export TERM=xterm
    start vm "$KERNELS/spin.elf"
    (sleep 2; tf stop vm) 3>&- &
    run on_terminal "expect:q quit" -- "$TWOFOLD" top vm
    [[ $output == *"vm has ended"*"terminal restored"*"status 0" ]]
    start two "$KERNELS/spin.elf"
    run on_terminal "expect:q quit" "send:\\x03" -- "$TWOFOLD" top two
    [[ $output == *"terminal restored"*"status 0" ]]
}

@test "top: of several VMs one is chosen with the arrow keys" {
    need_kvm
    export TERM=xterm
    start one "$KERNELS/spin.elf"
    start two "$KERNELS/spin.elf"
    run on_terminal "expect:Which VM" "send:j" "send:\\r" "expect:KVM_RUN" "send:p" "expect:paus" \
        "send:q" -- "$TWOFOLD" top
    [[ $output == *"status 0" ]]
    [[ $(stat_of one 'd["state"]') == running && $(stat_of two 'd["state"]') == paused ]]
    run --separate-stderr tf top --once
    refused 2
}

@test "top: no colour with NO_COLOR, plain pictures on a dumb terminal" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    export TERM=xterm-256color
    run on_terminal "expect:q quit" "send:q" -- env NO_COLOR=1 "$TWOFOLD" top vm
    [[ $output != *$'\e[3'[0-9]* ]]
    run on_terminal "expect:q quit" "send:q" -- "$TWOFOLD" top vm
    [[ $output == *$'\e[3'[0-9]* ]]
    (sleep 3; tf stop vm) 3>&- &
    run on_terminal "expect:vm  running" "expect:vm  running" -- env TERM=dumb "$TWOFOLD" top vm
    [[ $output != *$'\e'* && $output == *"status 0" ]]
}

@test "top: bad use is one line" {
    run --separate-stderr tf top --once
    refused 1
    run --separate-stderr tf top --once nosuch
    refused 1
    run --separate-stderr tf top nosuch
    refused 2
    [[ $stderr == *"no terminal"* ]]
    run --separate-stderr tf top --once a b
    refused 2
    run --separate-stderr tf top --once --interval 1ms
    refused 2
    run --separate-stderr tf top --wrong
    refused 2
}
