#!/usr/bin/env bats
# The DMA test device, and `twofold isolate` with it.

load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}

# What `stat` says of the device.
edu_stat() {
    "$TWOFOLD" stat --json "$1" | json "next(f for f in d['pci'] if f['name'] == 'edu')['edu']['$2']"
}

edu_busy() {
    (($(edu_stat "$1" transfers) > 0))
}

@test "isolate: the emulated device reaches what it was given, and nothing else" {
    need_kvm
    run --separate-stderr tf isolate --kernel "$GUEST" -o "$BATS_TEST_TMPDIR/picture.html"
    [[ $status -eq 0 && -z $stderr ]]
    [[ ${lines[-1]} == "isolated: "*" went through, "*" were blocked; with an identity mapping "* ]]
    local blocked through
    blocked=$(grep -c '^blocked ' <<<"$output")
    through=$(grep -c '^through ' <<<"$output")
    ((blocked >= 10 && through >= 4))
    # An event of the virtual IOMMU, and memory that changed or didn't.
    grep -qE '^blocked  write 0x[0-9a-f]+ .* memory untouched .*\(xxh64 [0-9a-f]{16}\)  write 0x[0-9a-f]+ ' <<<"$output"
    grep -qE '^through  write 0x[0-9a-f]+ .* memory changed .*\(xxh64 [0-9a-f]{16} -> [0-9a-f]{16}\)$' <<<"$output"
    python3 - "$BATS_TEST_TMPDIR/picture.html" "$((blocked + through))" <<'PY'
import sys, xml.etree.ElementTree as e
page = e.parse(sys.argv[1])
html, svg = '{http://www.w3.org/1999/xhtml}', '{http://www.w3.org/2000/svg}'
rows = page.findall(f'.//{html}tbody/{html}tr')
arrows = [g for g in page.iter(svg + 'g') if g.get('class') == 'attempt']
assert len(rows) == len(arrows) == int(sys.argv[2])
PY
}

@test "isolate: another guest says nothing of the kind" {
    need_kvm
    run --separate-stderr tf isolate --kernel "$KERNELS/acpi_poweroff.elf"
    [[ $status -eq 1 && -z $output && $stderr == *"status 0 after 0 attempts, before the guest said"* ]]
    run --separate-stderr tf isolate --kernel "$KERNELS/crash_triple.elf"
    [[ $status -eq 1 && -z $output && $stderr == *"the guest crashed after 0 attempts"* ]]
}

@test "stat counts the device's transfers; while the VM is paused there are none" {
    need_kvm
    start busy --mem 64M --edu --iommu --append "unified 1000000" "$GUEST"
    wait_for edu_busy busy
    "$TWOFOLD" pause busy
    local before
    before=$(edu_stat busy transfers)
    [[ $(edu_stat busy transfers) -eq $before ]]
    run -0 "$TWOFOLD" stat busy
    [[ $output == *"transfers ("*" page requests"* ]]
    "$TWOFOLD" resume busy
    more() {
        (($(edu_stat busy transfers) > before))
    }
    wait_for more
    (($(edu_stat busy page_requests) > 0))
}
