#!/usr/bin/env bats
# --paging shadow: its counters, and guests that try to keep the monitor busy.

load helper

@test "stat counts the faults by tables that are broken" {
    need_kvm
    start broken --paging shadow "$KERNELS/rules_tables64.elf" -- broken
    wait_for grep -q "ready" "$BATS_TEST_TMPDIR/broken.out"
    tf stat --json broken >"$BATS_TEST_TMPDIR/stat"
    run json 'd["shadow"]["refused_tables"], d["shadow"]["window_accesses"]' <"$BATS_TEST_TMPDIR/stat"
    [[ $output == "(11, 0)" ]]
}

@test "a guest that faults for ever can be paused, looked at and stopped" {
    need_kvm
    start looping --paging shadow "$KERNELS/crash_by64.elf" -- loop
    wait_for grep -q "crash" "$BATS_TEST_TMPDIR/looping.out"
    run -0 tf pause looping
    tf stat --json looping >"$BATS_TEST_TMPDIR/stat"
    run json 'd["state"], d["shadow"]["reflected_exceptions"] > 0' <"$BATS_TEST_TMPDIR/stat"
    [[ $output == "('paused', True)" ]]
    run -0 tf resume looping
    run -0 tf stop looping
    run wait "$pid"
}
