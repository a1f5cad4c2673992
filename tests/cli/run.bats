#!/usr/bin/env bats
# `twofold run`: what can't be done, exit statuses, pipes.

load helper

# --- what can't be done ------------------------------------------------------------------

@test "no /dev/kvm: one line, status 1" {
    need_root "hide /dev"
    unshare -m true 2>/dev/null || skip "skipped: no mount namespaces here"
    run --separate-stderr unshare -m bash -c '
        mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"' - \
        "$TWOFOLD" run "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"/dev/kvm"* ]]
}

@test "/dev/kvm that is something else: one line, status 1" {
    need_root "replace /dev/kvm"
    [[ -e /dev/kvm ]] || skip "skipped: no /dev/kvm to replace"
    unshare -m true 2>/dev/null || skip "skipped: no mount namespaces here"
    run --separate-stderr unshare -m bash -c '
        mount --bind /dev/null /dev/kvm && exec "$@"' - "$TWOFOLD" run "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"/dev/kvm"* ]]
}

@test "no right to /dev/kvm: one line, status 1" {
    need_root "become another user"
    [[ -e /dev/kvm ]] || skip "skipped: no /dev/kvm"
    setpriv --reuid 65534 --regid 65534 --clear-groups test -r /dev/kvm &&
        skip "skipped: everybody may open /dev/kvm here"
    local place
    place=$(mktemp -d)
    chmod 755 "$place"
    cp "$TWOFOLD" "$KERNELS/spin.elf" "$place"
    run --separate-stderr setpriv --reuid 65534 --regid 65534 --clear-groups \
        "$place/twofold" run "$place/spin.elf"
    rm -r "$place"
    refused 1
    [[ $stderr == *"/dev/kvm: permission denied"* ]]
}

@test "a file that is no kernel, and one that is cut short: status 2" {
    need_kvm
    echo "not a kernel" >"$BATS_TEST_TMPDIR/text"
    run --separate-stderr tf run "$BATS_TEST_TMPDIR/text"
    refused 2
    : >"$BATS_TEST_TMPDIR/empty"
    run --separate-stderr tf run "$BATS_TEST_TMPDIR/empty"
    refused 2
    head -c 200 "$KERNELS/spin.elf" >"$BATS_TEST_TMPDIR/short"
    run --separate-stderr tf run "$BATS_TEST_TMPDIR/short"
    refused 2
}

@test "absurd memory: status 2 or 1, one line" {
    need_kvm
    run --separate-stderr tf run --mem 1000000T "$KERNELS/spin.elf"
    [[ $status -eq 1 || $status -eq 2 ]] && refused "$status"
}

@test "huge pages that are not there: status 1, and the number that is missing" {
    need_kvm
    local pool=/sys/kernel/mm/hugepages/hugepages-2048kB free
    [[ -d $pool ]] || skip "skipped: no 2 MiB pages on this kernel"
    free=$(cat $pool/free_hugepages)
    run --separate-stderr tf run --backing hugetlb-2m --mem "$((free * 2 + 64))M" \
        "$KERNELS/cli_args.elf"
    refused 1
    [[ $stderr == *"32 "* ]]
}

@test "an initrd larger than RAM" {
    need_kvm
    truncate -s 64M "$BATS_TEST_TMPDIR/initrd"
    run --separate-stderr tf run --mem 32M --initrd "$BATS_TEST_TMPDIR/initrd" "$KERNELS/spin.elf"
    refused 2
}

@test "a console file that can't be written: status 2" {
    need_kvm
    run --separate-stderr tf run --console file:/nonexistent/out "$KERNELS/spin.elf"
    refused 2
    [[ $stderr == *"/nonexistent/out"* ]]
}

@test "a socket folder that can't be made, or is not ours: status 1" {
    need_kvm
    : >"$BATS_TEST_TMPDIR/file"
    XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/file run --separate-stderr tf run "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"XDG_RUNTIME_DIR"* ]]
    XDG_RUNTIME_DIR=/nonexistent run --separate-stderr tf run "$KERNELS/spin.elf"
    refused 1
    mkdir "$XDG_RUNTIME_DIR/twofold"
    chmod 777 "$XDG_RUNTIME_DIR/twofold"
    run --separate-stderr tf run "$KERNELS/spin.elf"
    refused 1
    XDG_RUNTIME_DIR=/tmp/$(printf 'd%.0s' {1..120}) run --separate-stderr tf run "$KERNELS/spin.elf"
    refused 1
}

# --- exit status --------------------------------------------------------------------------

@test "the guest's exit value is the status; above 126 it is 125 and a line says so" {
    need_kvm
    local value
    for value in 0 1 2 42 125 126; do
        run --separate-stderr tf run "$KERNELS/cli_args.elf" -- "$value"
        [[ $status -eq $value && -z $stderr && $output == "[$value]" ]]
    done
    for value in 127 200 256 4294967295; do
        run --separate-stderr tf run "$KERNELS/cli_args.elf" -- "$value"
        [[ $status -eq 125 && $stderr == *"$value"* ]]
    done
}

@test "--append and ARGS reach the guest as they are" {
    need_kvm
    run --separate-stderr tf run --append "a  b" "$KERNELS/cli_args.elf" -- --mem -h -- "" "x y"
    [[ $status -eq 0 && $output == "[a  b --mem -h --  x y]" ]]
    run --separate-stderr tf run "$KERNELS/cli_args.elf" --append z
    [[ $output == "[z]" ]]
    run --separate-stderr tf run "$KERNELS/cli_args.elf" --
    [[ $output == "[]" ]]
}

@test "--timeout ends a vCPU that spins: status 124" {
    need_kvm
    run --separate-stderr tf run --timeout 200ms --cpus 2 "$KERNELS/spin.elf"
    [[ $status -eq 124 && $output == "spinning" && $stderr == "twofold: time-out"* ]]
}

@test "a guest that crashes: status 127 and a dump" {
    need_kvm
    [[ -e $KERNELS/crash_triple.elf ]] || skip "skipped: no crash kernel was built"
    run -127 --separate-stderr tf run --timeout 20 "$KERNELS/crash_triple.elf"
    [[ $status -eq 127 && $stderr == *"rip"* ]]
}

@test "power off: status 0, silent; a reset: status 0 and a line" {
    need_kvm
    run --separate-stderr tf run --timeout 20 "$KERNELS/acpi_poweroff.elf"
    [[ $status -eq 0 && -z $stderr ]]
    run --separate-stderr tf run --timeout 20 "$KERNELS/reset_kbd.elf"
    [[ $status -eq 0 && $stderr == "twofold: "*reset* ]]
}

@test "signals end the VM in good order: status 143, no socket left" {
    need_kvm
    local signal status
    for signal in TERM INT HUP QUIT; do
        # A background job of a script would ignore SIGINT and SIGQUIT, and under nohup SIGHUP: give them back.
        env --default-signal=INT,QUIT,HUP "$TWOFOLD" run --name sig --timeout 60 "$KERNELS/spin.elf" \
            </dev/null >/dev/null 2>"$BATS_TEST_TMPDIR/err" 3>&- &
        pid=$!
        vm_pids+=("$pid")
        wait_for "$TWOFOLD" stat sig
        kill -"$signal" "$pid"
        status=0
        wait "$pid" || status=$?
        [[ $status -eq 143 ]]
        grep -q "signal $signal" "$BATS_TEST_TMPDIR/err"
        [[ -z $(ls "$XDG_RUNTIME_DIR/twofold") ]]
    done
}

@test "a signal that the parent ignores (nohup) stays ignored" {
    need_kvm
    (trap '' HUP && exec "$TWOFOLD" run --name nohup --timeout 60 "$KERNELS/spin.elf" \
        </dev/null >/dev/null 2>&1 3>&-) &
    pid=$!
    vm_pids+=("$pid")
    wait_for "$TWOFOLD" stat nohup
    kill -HUP "$pid"
    sleep 0.2
    tf stat nohup >/dev/null
    tf stop nohup
}

# --- stdin, stdout, files -------------------------------------------------------------------

@test "output goes through a pipe, messages don't" {
    need_kvm
    run bash -c '"$1" run --timeout 10 "$2" -- 300 2>/dev/null | tr 0-9 a-j' - "$TWOFOLD" \
        "$KERNELS/cli_args.elf"
    [[ $output == "[daa]" ]]
}

@test "a reader that leaves (head -1) ends the VM: status 143" {
    need_kvm
    run bash -c 'timeout 60 "$1" run "$2" 2>"$3" | head -1; echo "${PIPESTATUS[0]}"' - "$TWOFOLD" \
        "$KERNELS/cli_lines.elf" "$BATS_TEST_TMPDIR/err"
    [[ ${lines[0]} == "a line of text" && ${lines[1]} == 143 ]]
    grep -q "reader of stdout" "$BATS_TEST_TMPDIR/err"
}

@test "a full disk behind stdout ends the VM: status 143" {
    need_kvm
    run --separate-stderr bash -c 'timeout 60 "$1" run "$2" >/dev/full' - "$TWOFOLD" \
        "$KERNELS/cli_lines.elf"
    [[ $status -eq 143 && $stderr == *"No space"* ]]
}

@test "a reader that stalls holds the guest up, and stop still works" {
    need_kvm
    mkfifo "$BATS_TEST_TMPDIR/fifo"
    exec 4<>"$BATS_TEST_TMPDIR/fifo"
    "$TWOFOLD" run --name stalled --timeout 60 "$KERNELS/cli_lines.elf" \
        </dev/null >&4 2>/dev/null 3>&- 4>&4 &
    pid=$!
    vm_pids+=("$pid")
    wait_for "$TWOFOLD" stat stalled
    sleep 0.5
    tf stop stalled
    exec 4>&-
}

@test "stdin: a pipe, its end, /dev/null, closed, a file" {
    need_kvm
    run --separate-stderr bash -c 'printf abcq | timeout 60 "$1" run "$2"' - "$TWOFOLD" \
        "$KERNELS/cli_echo.elf"
    [[ $status -eq 3 && $output == $'ready\nabc' ]]
    printf 'from a fileq' >"$BATS_TEST_TMPDIR/in"
    run --separate-stderr bash -c 'timeout 60 "$1" run "$2" <"$3"' - "$TWOFOLD" \
        "$KERNELS/cli_echo.elf" "$BATS_TEST_TMPDIR/in"
    [[ $status -eq 3 && $output == $'ready\nfrom a file' ]]
    run --separate-stderr bash -c 'timeout 60 "$1" run "$2" -- 5 </dev/null' - "$TWOFOLD" \
        "$KERNELS/cli_args.elf"
    [[ $status -eq 5 && $output == "[5]" ]]
    run --separate-stderr bash -c 'timeout 60 "$1" run "$2" -- 5 <&-' - "$TWOFOLD" \
        "$KERNELS/cli_args.elf"
    [[ $status -eq 5 && $output == "[5]" ]]
}

@test "stdin: more than the guest takes at once waits in the pipe, and none is lost" {
    need_kvm
    head -c 75000 /dev/urandom | base64 -w0 | tr q Q >"$BATS_TEST_TMPDIR/in"
    run bash -c '(cat "$3"; printf q) | timeout 60 "$1" run "$2" | tail -n +2 | cmp - "$3"' - \
        "$TWOFOLD" "$KERNELS/cli_echo.elf" "$BATS_TEST_TMPDIR/in"
    [[ $status -eq 0 && -z $output ]]
}

@test "stdin: Ctrl-A in a pipe is a byte like any other" {
    need_kvm
    run bash -c 'printf "\001x\001q" | timeout 60 "$1" run "$2" | od -An -tx1' - "$TWOFOLD" \
        "$KERNELS/cli_echo.elf"
    [[ $output == *"0a 01 78 01" ]]
}

@test "closed stdout and stderr change nothing" {
    need_kvm
    run bash -c 'timeout 60 "$1" run "$2" -- 7 >&- 2>&-' - "$TWOFOLD" "$KERNELS/cli_args.elf"
    [[ $status -eq 7 ]]
}

@test "--console file: all output, nothing on stdout" {
    need_kvm
    echo "what was there" >"$BATS_TEST_TMPDIR/out"
    run --separate-stderr tf run --console "file:$BATS_TEST_TMPDIR/out" "$KERNELS/cli_args.elf" -- 9
    [[ $status -eq 9 && -z $output && $(cat "$BATS_TEST_TMPDIR/out") == "[9]" ]]
}

@test "--trace writes a line for each exit" {
    need_kvm
    run --separate-stderr tf run --trace="$BATS_TEST_TMPDIR/trace" "$KERNELS/cli_args.elf" -- 0
    [[ $status -eq 0 && $(grep -c 0x3f8 "$BATS_TEST_TMPDIR/trace") -eq 4 ]]
}
