#!/usr/bin/env bats
# `twofold run --vfio`: what is refused before anything changes. That it works is a test of the lab
# (tests/lab/passthrough).

load helper

# A PCI device of this machine that has no IOMMU before it, or nothing.
without_iommu() {
    local device
    for device in /sys/bus/pci/devices/*; do
        [[ -e $device && ! -e $device/iommu_group && $(<"$device/class") != 0x06* ]] || continue
        basename "$device"
        return
    done
}

refuses() { # STATUS PATTERN OPTIONS...
    local expected=$1 pattern=$2
    shift 2
    run --separate-stderr tf run "$@" "$KERNELS/spin.elf"
    refused "$expected"
    [[ $stderr == *$pattern* ]]
}

@test "a name that is no PCI device: status 2" {
    need_kvm
    local name
    for name in '' edu 4 00:04 00:04.8 00:20.0 100:04.0 00:04.0.0 00:04.0x 00000:00:04.0 \
        0000:00:00:04.0 0000:0g:04.0 ' 00:04.0' 00:04. :04.0 00:04.00; do
        refuses 2 'no PCI device' --vfio "$name"
    done
}

@test "a device that is not there: status 2" {
    need_kvm
    [[ ! -e /sys/bus/pci/devices/ffff:ff:1f.7 ]] || skip "skipped: there is such a device"
    refuses 2 'ffff:ff:1f.7' --vfio ffff:ff:1f.7
}

@test "no IOMMU before the device: status 1" {
    need_kvm
    local device
    device=$(without_iommu)
    [[ $device ]] || skip "skipped: no PCI device without an IOMMU"
    refuses 1 'IOMMU' --vfio "$device"
}

@test "words that --vfio doesn't know, and bad ranges: status 2" {
    need_kvm
    refuses 2 'use iova=RANGE' --vfio 00:04.0,ro
    refuses 2 'no range' --vfio 00:04.0,iova=5
    refuses 2 'is empty' --vfio 00:04.0,iova=5-5
    refuses 2 'more than 8' --vfio "00:04.0$(printf ',iova=%dM+4K' {1..9})"
}

@test "ranges that are no RAM, not aligned or overlap, a device twice: status 2" {
    need_kvm
    refuses 2 'not RAM' --mem 64M --vfio 00:04.0,iova=64M+4K
    refuses 2 'not RAM' --mem 64M --vfio 00:04.0,iova=60M+8M
    refuses 2 'not RAM' --mem 64M --vfio 00:04.0,iova=0xfee00000+4K
    refuses 2 'not RAM' --mem 64M --vfio 00:04.0,iova=4G+4K
    refuses 2 'page of 4 KiB' --vfio 00:04.0,iova=0x1001+4K
    refuses 2 'page of 4 KiB' --vfio 00:04.0,iova=0x1000+5
    refuses 2 'overlaps' --vfio 00:04.0,iova=0-1M,iova=0xff000+8K
    refuses 2 'twice' --vfio 00:04.0 --vfio 0000:00:04.0
}
