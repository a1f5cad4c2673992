#!/usr/bin/env bats
# twofold devices, and what `run --vfio` says of devices that it can't have. The rest needs an IOMMU:
# tests/lab/devices.

load helper

@test "devices: text and JSON, status 0 on any host" {
    run --separate-stderr tf devices
    [[ $status -eq 0 && -z $stderr && -n $output ]]
    run --separate-stderr tf devices --json
    [[ $status -eq 0 && -z $stderr ]]
    [[ $(json 'type(d).__name__' <<<"$output") == list ]]
}

@test "devices knows those that sysfs knows, with driver and group" {
    [[ -d /sys/bus/pci/devices ]] || skip "skipped: no PCI here"
    tf devices --json >"$BATS_TEST_TMPDIR/devices"
    [[ $(json '"\n".join(x["bdf"] for x in d)' <"$BATS_TEST_TMPDIR/devices") == "$(ls /sys/bus/pci/devices)" ]]
    local bdf driver group ids
    for bdf in /sys/bus/pci/devices/*; do
        [[ -e $bdf ]] || continue
        driver=$(basename "$(readlink "$bdf/driver" || echo None)")
        group=$(basename "$(readlink "$bdf/iommu_group" || echo None)")
        ids=$(cut -c 3-6 "$bdf/vendor"):$(cut -c 3-6 "$bdf/device")
        [[ $(json "[(x['driver'], x['group'], x['id']) for x in d if x['bdf'] == '${bdf##*/}'] == \
            [('$driver' if '$driver' != 'None' else None, $group, '$ids')]" <"$BATS_TEST_TMPDIR/devices") == True ]]
    done
}

@test "devices: each has a reason, and no IOMMU isolates nothing" {
    tf devices --json >"$BATS_TEST_TMPDIR/devices"
    [[ $(json 'all(x["why"] and x["name"] for x in d)' <"$BATS_TEST_TMPDIR/devices") == True ]]
    [[ $(json 'any(x["group"] is None and (x["isolated"] or x["usable"]) for x in d)' <"$BATS_TEST_TMPDIR/devices") == False ]]
    [[ $(json 'any(x["bridge"] and x["usable"] for x in d)' <"$BATS_TEST_TMPDIR/devices") == False ]]
}

@test "devices: names without libpci are numbers" {
    tf devices --json >"$BATS_TEST_TMPDIR/named"
    : >"$BATS_TEST_TMPDIR/libpci.so.3"
    LD_LIBRARY_PATH=$BATS_TEST_TMPDIR tf devices --json >"$BATS_TEST_TMPDIR/numbers"
    [[ $(json 'all(x["name"] == "class " + x["class"][:4] for x in d)' <"$BATS_TEST_TMPDIR/numbers") == True ]]
    [[ $(json '[x["bdf"] for x in d]' <"$BATS_TEST_TMPDIR/named") == "$(json '[x["bdf"] for x in d]' <"$BATS_TEST_TMPDIR/numbers")" ]]
}

@test "devices --restore without anything to restore" {
    if [[ -z $(ls "$(records)" 2>/dev/null) ]]; then
        run --separate-stderr tf devices --restore
        [[ $status -eq 0 && $output == "no device is away from its driver" ]]
    fi
    run --separate-stderr tf devices --restore 00:1e.7
    refused 1 && [[ $stderr == *"no record of device 0000:00:1e.7"* ]]
}

@test "devices --restore: records of root are the machine's, not those of a session" {
    run tf devices --restore 00:1e.7 # looks, and finds nothing
    [[ -d $(records) ]]
    ((EUID != 0)) || [[ ! -e $XDG_RUNTIME_DIR/twofold ]]
}

@test "devices: wrong usage" {
    local bad
    for bad in 0 00:04 0:4 00:04.8 00:20.0 00:04.0.0 "00:04.0 " 0000:00:04.0/ ../x "" zz:zz.z 99999:00:04.0; do
        run --separate-stderr tf devices --restore "$bad"
        refused 2 && [[ $stderr == *"no PCI device"* ]]
    done
    run --separate-stderr tf devices 00:04.0
    refused 2
    run --separate-stderr tf devices --json --restore
    refused 2
    run --separate-stderr tf devices --frobnicate
    refused 2
    run --separate-stderr tf devices --json=x
    refused 2
}

@test "run --vfio: a bridge, and a device without an IOMMU" {
    [[ -d /sys/bus/pci/devices ]] || skip "skipped: no PCI here"
    local bdf
    tf devices --json >"$BATS_TEST_TMPDIR/devices"
    : >"$BATS_TEST_TMPDIR/kernel"
    bdf=$(json '([x["bdf"] for x in d if x["bridge"]] + [""])[0]' <"$BATS_TEST_TMPDIR/devices")
    if [[ $bdf ]]; then
        run --separate-stderr tf run --vfio "$bdf" "$BATS_TEST_TMPDIR/kernel"
        refused 2 && [[ $stderr == *"bridge"* ]]
    fi
    bdf=$(json '([x["bdf"] for x in d if x["group"] is None and not x["bridge"]] + [""])[0]' <"$BATS_TEST_TMPDIR/devices")
    if [[ $bdf ]]; then
        run --separate-stderr tf run --vfio "$bdf" "$BATS_TEST_TMPDIR/kernel"
        refused 1 && [[ $stderr == *"no IOMMU"* ]]
    fi
    [[ ! -e $(records)/$bdf || ! $bdf ]]
}
