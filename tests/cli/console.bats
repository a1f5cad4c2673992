#!/usr/bin/env bats
# The console at a terminal: raw mode, Ctrl-A keys, pty, attached clients.

load helper

at_terminal() {
    run timeout 60 python3 "$BATS_TEST_DIRNAME/terminal.py" "$@"
}

@test "keys reach the guest, Ctrl-C and Ctrl-Z too; the terminal is given back" {
    need_kvm
    at_terminal expect:ready 'send:a\x03\x1ab' 'expect:a\x03\x1ab' send:q -- \
        "$TWOFOLD" run "$KERNELS/cli_echo.elf"
    [[ $output == *$'terminal restored\nstatus 3' ]]
}

@test "Ctrl-A h helps, Ctrl-A Ctrl-A sends one, Ctrl-A x ends the VM: status 143" {
    need_kvm
    at_terminal expect:ready 'send:\x01h' 'expect:this list' 'send:\x01\x01.' 'expect:\x01.' \
        'send:\x01x' -- "$TWOFOLD" run "$KERNELS/cli_echo.elf"
    [[ $output == *"Ctrl-A x"* && $output == *$'terminal restored\nstatus 143' ]]
}

@test "Ctrl-A x ends a vCPU that spins" {
    need_kvm
    at_terminal expect:spinning 'send:\x01x' -- "$TWOFOLD" run "$KERNELS/spin.elf"
    [[ $output == *$'terminal restored\nstatus 143' ]]
}

@test "the terminal is given back after a crash, a time-out, a signal" {
    need_kvm
    at_terminal -- "$TWOFOLD" run "$KERNELS/crash_triple.elf"
    [[ $output == *$'terminal restored\nstatus 127' ]]
    at_terminal -- "$TWOFOLD" run --timeout 100ms "$KERNELS/spin.elf"
    [[ $output == *$'terminal restored\nstatus 124' ]]
    at_terminal expect:spinning -- bash -c '"$1" run --name t "$2" & pid=$!
        for ((i = 0; i < 400; i++)); do "$1" stat t >/dev/null 2>&1 && break; sleep 0.05; done
        kill $pid; wait $pid' - "$TWOFOLD" "$KERNELS/spin.elf"
    [[ $output == *$'terminal restored\nstatus 143' ]]
}

@test "in the background the terminal is left alone" {
    need_kvm
    at_terminal -- bash -c 'set -m; timeout --foreground 20 "$1" run "$2" -- 5 & wait $!' - \
        "$TWOFOLD" "$KERNELS/cli_args.elf"
    [[ $output == *"[5]"*$'terminal restored\nstatus 5' ]]
}

@test "--console pty: both ways, nothing on stdout" {
    need_kvm
    start pty --console pty "$KERNELS/cli_echo.elf"
    local path
    path=$(sed -n 's/^twofold: console on //p' "$BATS_TEST_TMPDIR/pty.err")
    [[ -c $path ]]
    [[ $(tf console --json pty | json 'd["console"]["path"]') == "$path" ]]
    exec 5<>"$path"
    printf 'over the pty' >&5
    local status=0
    # The end of the VM hangs up, and what nobody read until then is gone.
    timeout 20 head -c 18 <&5 >"$BATS_TEST_TMPDIR/seen"
    printf q >&5
    exec 5>&-
    wait "$pid" || status=$?
    [[ $status -eq 3 && ! -s $BATS_TEST_TMPDIR/pty.out ]]
    [[ $(cat "$BATS_TEST_TMPDIR/seen") == $'ready\nover the pty' ]]
}

@test "a pty that nobody reads does not hold up the guest" {
    need_kvm
    start pty --console pty "$KERNELS/cli_lines.elf"
    # More than any pty holds: it can only get there if output is dropped.
    enough() {
        (($(stat_of pty 'd["vcpus"][0]["exits"]["pio"]') > 70000))
    }
    wait_for enough
    tf stop pty
}

@test "console attaches beside stdio: keys, Ctrl-A h, Ctrl-A x detaches, the VM goes on" {
    need_kvm
    start echo "$KERNELS/cli_echo.elf"
    at_terminal expect:connected send:hello expect:hello 'send:\x01h' 'expect:the VM goes on' \
        'send:\x01x' -- "$TWOFOLD" console echo
    [[ $output == *"detached"*$'terminal restored\nstatus 0' ]]
    [[ $(stat_of echo 'd["state"]') == running ]]
    grep -q hello "$BATS_TEST_TMPDIR/echo.out"
    at_terminal expect:connected send:q -- "$TWOFOLD" console echo
    [[ $output == *"VM 'echo' ended"*$'terminal restored\nstatus 0' ]]
    local status=0
    wait "$pid" || status=$?
    [[ $status -eq 3 ]]
}

@test "console in a pipe: bytes go in as they are, output comes until the VM ends" {
    need_kvm
    start echo "$KERNELS/cli_echo.elf"
    run bash -c 'printf "a\001xbq" | timeout 30 "$1" console echo' - "$TWOFOLD"
    [[ $status -eq 0 && $output == $'a\001xb' ]]
}

@test "a console client that does not read holds up nobody" {
    need_kvm
    start lines "$KERNELS/cli_lines.elf"
    mkfifo "$BATS_TEST_TMPDIR/fifo"
    exec 4<>"$BATS_TEST_TMPDIR/fifo"
    "$TWOFOLD" console lines </dev/null >&4 2>/dev/null 3>&- &
    vm_pids+=("$!")
    local before
    before=$(stat_of lines 'd["vcpus"][0]["exits"]["pio"]')
    further() {
        (($(stat_of lines 'd["vcpus"][0]["exits"]["pio"]') > before + 20000))
    }
    wait_for further
    exec 4>&-
    tf stop lines
}
