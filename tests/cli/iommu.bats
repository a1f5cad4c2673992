#!/usr/bin/env bats
# shellcheck disable=SC2154 # status, stderr and output are set by run
# The IOMMU of a VM as `twofold iommu` and `stat` show it; bad input.

load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}

# iommu NAME PYTHON-EXPRESSION [OPTIONS...]
iommu() {
    local name=$1 expression=$2
    shift 2
    tf iommu --json "$@" "$name" | json "$expression"
}

busy() {
    [[ $(iommu "$1" 'd["counters"]["maps"] > 20 and d["counters"]["unmaps"] > 10') == True ]]
}

@test "endpoints in the order of the command line, with what is reserved" {
    need_kvm
    start quiet --iommu --edu --rng "$KERNELS/track_pages.elf"
    [[ $(iommu quiet '[(e["bdf"], e["name"], e["domain"]) for e in d["endpoints"]]') == \
        "[('00:02.0', 'edu', None), ('00:03.0', 'virtio-rng', None)]" ]]
    [[ $(iommu quiet 'd["endpoints"][0]["reserved"]') == \
        "[{'iova': '0xfee00000', 'size': 1048576, 'msi': True}]" ]]
    [[ $(iommu quiet 'd["bypass"], d["last_iova"], d["domains"], d["faults"]') == \
        "(False, '0xffffffffffff', [], [])" ]]
    run tf iommu quiet
    [[ $status -eq 0 && $output == *"reaches nothing"* && $output == *"00:02.0   edu"* ]]
}

@test "a domain's mappings are those of the guest, and change with them" {
    need_kvm
    start busy --iommu --edu "$GUEST" -- unified 4000000000 8
    wait_for busy busy
    [[ $(iommu busy 'len(d["domains"]), d["domains"][0]["count"] == len(d["domains"][0]["mappings"]) > 0') == \
        "(1, True)" ]]
    # They are sorted, of whole pages, and do not overlap.
    [[ $(iommu busy 'all(int(a["iova"], 0) + a["size"] <= int(b["iova"], 0) and a["size"] % 4096 == 0
        for m in [d["domains"][0]["mappings"]] for a, b in zip(m, m[1:]))') == True ]]
    [[ $(iommu busy 'd["domains"][0]["count"], len(d["domains"][0]["mappings"])' --mappings 1) == *", 1)" ]]
    run tf iommu --mappings 1 busy
    [[ $status -eq 0 && $output == *"more: see --mappings"* ]]
    [[ $(stat_of busy 'd["iommu"]["hits"] > 0, d["iommu"]["faults"]') == "(True, 0)" ]]
    run tf stat busy
    [[ $output == *IOMMU*"IOTLB"* ]]
}

@test "without --iommu there is none" {
    need_kvm
    start none --edu "$KERNELS/track_pages.elf"
    run --separate-stderr tf iommu none
    refused 1
    [[ $stderr == *"--iommu"* ]]
    [[ $(stat_of none '"iommu" in d') == False ]]
}

@test "wrong usage" {
    run --separate-stderr tf iommu
    refused 2
    run --separate-stderr tf iommu --mappings 5000 x
    refused 2
    run --separate-stderr tf iommu --faults 257 x
    refused 2
    run --separate-stderr tf iommu --nothing x
    refused 2
    run --separate-stderr tf iommu nobody
    refused 1
}

@test "the socket checks its argument" {
    need_kvm
    start asked --iommu --rng "$KERNELS/track_pages.elf"
    run ask asked '{"command":"iommu","arguments":{"mappings":4097}}' \
        '{"command":"iommu","arguments":{"mappings":-1}}' '{"command":"iommu","arguments":{"x":1}}' \
        '{"command":"iommu","arguments":{"mappings":0}}'
    [[ ${#lines[@]} -eq 4 ]]
    [[ ${lines[0]} == *EINVAL* && ${lines[1]} == *EINVAL* && ${lines[2]} == *EINVAL* ]]
    [[ ${lines[3]} == *'"ok":true'* ]]
}
