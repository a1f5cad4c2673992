#!/usr/bin/env bats
# Wrong usage: found before anything is made, so none of this needs /dev/kvm.

load helper

# wrong WHAT-STDERR-NAMES ARGS...: status 2 and one line that names what is wrong.
wrong() {
    local names=$1
    shift
    run --separate-stderr tf "$@"
    refused 2 && [[ $stderr == *"$names"* ]] || {
        echo "twofold $*: $stderr" >&2
        return 1
    }
}

kernel() {
    : >"$BATS_TEST_TMPDIR/kernel"
    echo "$BATS_TEST_TMPDIR/kernel"
}

@test "no command shows the usage on stderr, status 2" {
    run --separate-stderr tf
    [[ $status -eq 2 && -z $output && $stderr == *"usage: twofold COMMAND"* ]]
}

@test "an option that is not known, or has a value that it does not take, is named" {
    wrong "run: -m is no option" run -m64 "$(kernel)"
    wrong "run: -x is no option" run -xh "$(kernel)"
    wrong "ps: --foo is no option" ps --foo
    wrong "ps: -v is no option" ps --json -v
    wrong "ps: --help=3 takes no value" ps --help=3
    wrong "stop: --force=1 takes no value" stop --force=1 name
    wrong "guard: --json=3 takes no value" guard --json=3 name 0-4K off
    wrong "--track: say what" stat --track '' name
    wrong "run: --mem needs a value" run "$(kernel)" --mem
}

@test "an unknown command" {
    wrong "'rum'" rum
    wrong "'rum'" help rum
}

@test "--help of all, and of every command, on stdout" {
    run --separate-stderr tf --help
    [[ $status -eq 0 && -z $stderr && $output == *"usage: twofold COMMAND"* ]]
    local commands=$output
    for command in run ps stat pause resume stop console info lab version; do
        [[ $commands == *"  $command "* ]]
        run --separate-stderr tf "$command" --help
        [[ $status -eq 0 && -z $stderr && $output == "usage: twofold $command"* ]]
        run --separate-stderr tf help "$command"
        [[ $status -eq 0 && $output == "usage: twofold $command"* ]]
    done
}

@test "the version" {
    run --separate-stderr tf version
    [[ $status -eq 0 && $output == "twofold "[0-9]* ]]
    wrong "'x'" version x
    run tf --version
    [[ $status -eq 0 ]]
}

@test "run: options that are none, or lack their value" {
    wrong "--frobnicate" run --frobnicate "$(kernel)"
    wrong "-z" run -z "$(kernel)"
    wrong "--mem" run "$(kernel)" --mem
    wrong "--help=x" run --help=x
}

@test "run: no kernel, two kernels, a kernel only after --" {
    wrong "no kernel" run
    wrong "'second'" run "$(kernel)" second
    wrong "no kernel" run -- "$(kernel)"
}

@test "run: --mem" {
    local bad
    for bad in 0 0G 1K 1M "" -1 -1G 12Q 1.5G G 512MM 512X "512 M" 0x100 3000001K; do
        wrong "--mem" run --mem "$bad" "$(kernel)"
    done
    wrong "more than an address" run --mem 99999999T "$(kernel)"
    wrong "more than an address" run --mem 99999999999999999999 "$(kernel)"
}

@test "run: --cpus" {
    local bad
    for bad in 0 65 -1 "" two 1.5 99999999999999999999 "1 "; do
        wrong "--cpus" run --cpus "$bad" "$(kernel)"
    done
}

@test "run: --name" {
    local bad
    for bad in "" a/b ../x . .. .hidden -x "a b" $'a\nb' ä; do
        wrong "name" run --name="$bad" "$(kernel)"
    done
    wrong "too long" run --name "$(printf 'n%.0s' {1..65})" "$(kernel)"
}

@test "run: --console, --backing, --timeout" {
    local bad
    for bad in "" tty file file: file= stdio:x; do
        wrong "--console" run --console "$bad" "$(kernel)"
    done
    for bad in "" hugetlb THP hugetlb-4m; do
        wrong "$bad" run --backing "$bad" "$(kernel)"
    done
    for bad in 0 0.0 -1 "" never 1d 1e10 inf nan 0x10 1.2.3 . ms; do
        wrong "--timeout" run --timeout "$bad" "$(kernel)"
    done
}

@test "run: files that are not there, or no files" {
    wrong "No such file" run /nonexistent/kernel
    wrong "folder" run "$BATS_TEST_TMPDIR"
    wrong "--initrd '/nonexistent/initrd': No such file" run --initrd /nonexistent/initrd "$(kernel)"
    wrong "--trace" run --trace=/nonexistent/trace "$(kernel)"
}

@test "run: nothing is left behind by wrong usage" {
    wrong "--mem" run --mem 0 "$(kernel)"
    [[ ! -e $XDG_RUNTIME_DIR/twofold ]]
}

@test "the commands that take a name: none, two, a bad one" {
    local command
    for command in stat pause resume stop console; do
        wrong "$command" "$command"
        wrong "$command" "$command" a b
        wrong "'a/b'" "$command" a/b
        wrong "--frobnicate" "$command" --frobnicate a
        wrong "--json=x" "$command" --json=x a
    done
    wrong "--force" stat --force a
    wrong "--timeout" stop --timeout 0 a
    wrong "ps" ps a
    wrong "info" info a
}

@test "a full disk behind stdout is an error" {
    run --separate-stderr bash -c '"$1" --help >/dev/full' - "$TWOFOLD"
    [[ $status -eq 1 && $stderr == "twofold: stdout"* ]]
}
