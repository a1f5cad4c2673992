#!/usr/bin/env bats
# twofold isolate: wrong usage, and an emulated device. With a real IOMMU: tests/lab/devices.

load helper

wrong() {
    local names=$1
    shift
    run --separate-stderr tf isolate "$@"
    refused 2 && [[ $stderr == *"$names"* ]] || {
        echo "twofold isolate $*: $stderr" >&2
        return 1
    }
}

@test "isolate: wrong usage" {
    local bad
    for bad in 0 00:04 00:04.8 00:20.0 "" zz "00:04.0,x" ../../x; do
        wrong "no PCI device" --device "$bad"
    done
    wrong "--vm is for --device" --vm
    wrong "no guest runs" --device 00:04.0 --kernel /dev/null
    wrong "No such file" --kernel /nonexistent
    wrong "'x' is no option" x
    wrong "--frobnicate" --frobnicate
    wrong "--json=x" --json=x
    wrong "-o needs a value" -o
    wrong "--device needs a value" --device
}

@test "isolate: a device that is not there, one without an IOMMU" {
    wrong "no PCI device ffff:ff:1f.7" --device ffff:ff:1f.7
    wrong "no PCI device ffff:ff:1f.7" --vm --device ffff:ff:1f.7
    local bdf
    bdf=$(tf devices --json | json '([x["bdf"] for x in d if x["group"] is None and not x["bridge"]] + [""])[0]')
    [[ $bdf ]] || skip "skipped: no PCI device without an IOMMU here"
    run --separate-stderr tf isolate --device "$bdf"
    refused 1 && [[ $stderr == *"no IOMMU"* ]]
    [[ ! -e $(records)/$bdf ]]
}

@test "isolate: a program alone asks for the guest" {
    [[ ! -e /usr/lib/twofold/guest.elf && ! -e /usr/local/lib/twofold/guest.elf ]] || skip "skipped: one is installed"
    cp "$TWOFOLD" "$BATS_TEST_TMPDIR/twofold"
    run --separate-stderr "$BATS_TEST_TMPDIR/twofold" isolate
    refused 2 && [[ $stderr == *"name it with --kernel"* ]]
}

@test "isolate: a guest that doesn't do it is a failure" {
    need_kvm
    run --separate-stderr tf isolate --kernel "$KERNELS/pvh64.elf"
    [[ $status -eq 1 && $output != *"isolated:"* && $stderr == *"isolate"* ]]
}

# Who starts us may ignore the ends of children, and we would inherit that.
@test "isolate: what became of the VM is known where SIGCHLD was ignored" {
    need_kvm
    # shellcheck disable=SC2016 # that shell expands it
    run --separate-stderr timeout 60 bash -c 'trap "" CHLD; exec "$0" isolate --kernel "$1"' "$TWOFOLD" "$KERNELS/pvh64.elf"
    [[ $status -eq 1 && $stderr == *"ended with status 1 "* ]]
}
