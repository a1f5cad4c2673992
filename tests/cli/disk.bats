#!/usr/bin/env bats
# run --disk: which files are refused, and how; one image is one VM's.

# shellcheck disable=SC2154 # status, stderr and pid are set by run and start
load helper

GUEST=${GUEST:-$(dirname "$TWOFOLD")/guest.elf}

# refuses STATUS TEXT OPTION: one line, which says so
refuses() {
    run --separate-stderr tf run --disk "$3" "$GUEST" -- info
    [[ $status -eq $1 && -z $output && $(wc -l <<<"$stderr") -eq 1 ]]
    [[ $stderr == *"--disk"*"$2"* ]]
}

@test "files that are no disk: status 2, and what to do" {
    need_kvm
    local dir=$BATS_TEST_TMPDIR
    truncate -s 1000 "$dir/odd"
    : >"$dir/empty"
    mkfifo "$dir/pipe"
    refuses 2 "No such file" "$dir/none"
    refuses 2 "folder" "$dir"
    refuses 2 "is empty" "$dir/empty"
    refuses 2 "1000 bytes" "$dir/odd"
    refuses 2 "neither a file nor a block device" "$dir/pipe"
    refuses 2 "no file named" ",ro"
    refuses 2 "use ro, direct" "$dir/odd,rw"
}

@test "a file without rights: status 2, and ',ro' as a way out" {
    need_kvm
    ((EUID != 0)) || skip "skipped: root may write everything"
    truncate -s 1M "$BATS_TEST_TMPDIR/image"
    chmod 444 "$BATS_TEST_TMPDIR/image"
    refuses 2 "add ',ro'" "$BATS_TEST_TMPDIR/image"
}

@test "one image is one VM's, unless all only read" {
    need_kvm
    local image=$BATS_TEST_TMPDIR/image
    truncate -s 1M "$image"
    start writer --disk "$image" "$KERNELS/spin.elf"
    refuses 1 "in use by another VM" "$image"
    refuses 1 "in use by another VM" "$image,ro"
    tf stop writer
    wait "$pid" || true
    start reader --disk "$image,ro" "$KERNELS/spin.elf"
    start other --disk "$image,ro" --disk "$image,ro" "$KERNELS/spin.elf"
    refuses 1 "in use by another VM" "$image"
    [[ $(stat_of other '[p["virtio"]["disk"]["read_only"] for p in d["pci"] if "virtio" in p]') == "[True, True]" ]]
}

@test "stat tells of queues and disks, and what was transferred" {
    need_kvm
    local image=$BATS_TEST_TMPDIR/image
    truncate -s 1M "$image"
    start disk --disk "$image" --rng --mem 64M --append "disk check 2048 0 4" "$GUEST"
    wait_for transferred
    tf stat disk | grep -q "$image, 1 MiB, by "
}

# While the guest writes, reads and compares.
transferred() {
    [[ $(stat_of disk '[p for p in d["pci"] if "virtio" in p]' >"$BATS_TEST_TMPDIR/stat") == "" ]]
    python3 - "$BATS_TEST_TMPDIR/stat" <<'PYTHON'
import ast, sys
disk, rng = ast.literal_eval(open(sys.argv[1]).read())
v = disk["virtio"]
q = v["queues"][0]
good = (v["state"] == "running" and q["requests"] and q["interrupts"] and not q["errors"] and q["broken"] is None
        and v["disk"]["bytes_written"] and v["disk"]["bytes"] == 1 << 20 and not v["disk"]["failed"]
        and disk["dma"]["bytes_read"] >= v["disk"]["bytes_written"] and disk["sent"]
        and rng["name"] == "virtio-rng" and "disk" not in rng["virtio"])
sys.exit(not good)
PYTHON
}
