#!/usr/bin/env bats
# twofold info, and installing.

load helper

@test "info: text and JSON, status 0 on any host" {
    run --separate-stderr tf info
    [[ $status -eq 0 && -z $stderr && $output == host*KVM*translation*pages*devices* ]]
    tf info --json >"$BATS_TEST_TMPDIR/info"
    [[ $(json 'sorted(d)' <"$BATS_TEST_TMPDIR/info") == \
        "['devices', 'host', 'kvm', 'memory', 'translation']" ]]
}

@test "info says what the host's own files say" {
    tf info --json >"$BATS_TEST_TMPDIR/info"
    [[ $(json 'd["host"]["kernel"]' <"$BATS_TEST_TMPDIR/info") == "$(uname -r)" ]]
    [[ $(json 'd["memory"]["page_bytes"]' <"$BATS_TEST_TMPDIR/info") == "$(getconf PAGESIZE)" ]]
    [[ $(json 'd["host"]["cpu"]["online"]' <"$BATS_TEST_TMPDIR/info") == "$(nproc --all)" ||
        $(json 'd["host"]["cpu"]["online"]' <"$BATS_TEST_TMPDIR/info") == "$(getconf _NPROCESSORS_ONLN)" ]]
    [[ $(json 'd["devices"]["iommu_groups"]' <"$BATS_TEST_TMPDIR/info") == \
        "$(find /sys/kernel/iommu_groups -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" ]]
    local guest=False
    ! grep -qw hypervisor /proc/cpuinfo || guest=True
    [[ $(json 'd["host"]["guest"]["is_guest"]' <"$BATS_TEST_TMPDIR/info") == "$guest" ]]
    if [[ -r /dev/kvm && -w /dev/kvm ]]; then
        [[ $(json 'd["kvm"]["api"]' <"$BATS_TEST_TMPDIR/info") == 12 ]]
    fi
}

@test "info knows the free huge pages" {
    need_root "reserve huge pages"
    local pool=/proc/sys/vm/nr_hugepages before
    [[ -w $pool ]] || skip "skipped: no huge pages on this kernel"
    before=$(cat $pool)
    echo $((before + 2)) >$pool
    local now info
    now=$(cat $pool)
    info=$(tf info --json | json 'max(p["total"] for p in d["memory"]["hugetlb"] if p["page_bytes"] == 2 << 20)')
    echo "$before" >$pool
    [[ $info == "$now" ]]
}

@test "info without /dev/kvm says so and goes on" {
    need_root "hide /dev"
    unshare -m true 2>/dev/null || skip "skipped: no mount namespaces here"
    run --separate-stderr unshare -m bash -c '
        mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"' - "$TWOFOLD" info --json
    [[ $status -eq 0 && -z $stderr ]]
    [[ $(json 'd["kvm"]["available"], "/dev/kvm" in d["kvm"]["why"], "no VM" in d["translation"]' \
        <<<"$output") == "(False, True, True)" ]]
}

@test "make install puts everything below DESTDIR and PREFIX" {
    local build
    build=$(dirname "$TWOFOLD")
    build=${build#"$ROOT"/} # as make was told
    [[ -e $(dirname "$TWOFOLD")/guest.elf ]] || skip "skipped: $TWOFOLD does not lie in a build folder"
    make -C "$ROOT" --no-print-directory -s BUILD="$build" DESTDIR="$BATS_TEST_TMPDIR/root" PREFIX=/usr install
    cd "$BATS_TEST_TMPDIR/root/usr"
    [[ -x bin/twofold && -s lib/twofold/guest.elf && -s share/man/man1/twofold.1 ]]
    [[ $(bin/twofold version) == "$(tf version)" ]]
    # The completion knows the commands and the options.
    run bash -c 'PATH=$PWD/bin:$PATH; . share/bash-completion/completions/twofold
        COMP_WORDS=(twofold pa); COMP_CWORD=1; _twofold; echo "${COMPREPLY[*]}"
        COMP_WORDS=(twofold run --back); COMP_CWORD=2; _twofold; echo "${COMPREPLY[*]}"
        COMP_WORDS=(twofold run --backing = me); COMP_CWORD=4; _twofold; echo "${COMPREPLY[*]}"
        COMP_WORDS=(twofold run --paging sh); COMP_CWORD=3; _twofold; echo "${COMPREPLY[*]}"
        COMP_WORDS=(twofold run --console =); COMP_CWORD=3; _twofold; echo "${COMPREPLY[*]}"
        COMP_WORDS=(twofold comp); COMP_CWORD=1; _twofold; echo "${COMPREPLY[*]}"
        COMP_WORDS=(twofold compare --j); COMP_CWORD=2; _twofold; echo "${COMPREPLY[*]}"
        cd ../../.. && touch a.txt a.json
        COMP_WORDS=(twofold compare a.); COMP_CWORD=2; _twofold; echo "${COMPREPLY[*]}"'
    [[ ${lines[0]} == pause && ${lines[1]} == --backing && ${lines[2]} == memfd ]]
    [[ ${lines[3]} == shadow && ${lines[4]} == "stdio pty file:" ]]
    [[ ${lines[5]} == compare && ${lines[6]} == --json && ${lines[7]} == a.json ]]
}
