#!/usr/bin/env bats
# twofold measure: what a result says, and what it says when something is in the way. Figures are
# not judged here: they are this machine's (tests/bench measures).

# shellcheck disable=SC2030,SC2031,SC2154 # each test is a subshell; run sets stderr

load helper

RESULT() { cat "$BATS_TEST_TMPDIR/result.json"; }

# measure SECONDS [OPTIONS]: a short run, its result in result.json.
measure() {
    local limit=$1
    shift
    tf measure --quick --quiet --limit "$limit" --json "$BATS_TEST_TMPDIR/result.json" "$@" \
        >"$BATS_TEST_TMPDIR/text"
}

valid() {
    python3 - "$ROOT/docs/measure.schema.json" "$BATS_TEST_TMPDIR/result.json" <<'PYTHON'
import json, sys
import jsonschema
schema, result = (json.load(open(path)) for path in sys.argv[1:])
jsonschema.validate(result, schema)
for cell in result["cells"]:
    assert (cell["state"] == "measured") == (cell["why"] == ""), cell
    assert ("ns" in cell) == (cell["state"] in ("measured", "noisy")), cell
    if "ns" not in cell:
        continue
    for unit in ("ns", "cycles"):
        s = cell[unit]
        assert s["n"] == len(s["samples"])
        assert min(s["samples"]) <= s["low"] <= s["median"] <= s["high"] <= max(s["samples"]) or s["n"] < 6
    assert abs(cell["cycles"]["median"] / cell["ns"]["median"] * 1e9 / result["environment"]["tsc_hz"] - 1) < 0.02
    assert cell["host_page_share"] >= 0.99 and cell.get("guest_page_share", 1) >= 0.99, cell
    assert cell["accesses"] * 4096 >= cell["footprint"]
    if cell["references"] is not None and cell["references_formula"] is not None:
        assert cell["references"] == cell["references_formula"], cell
PYTHON
}

nothing_left() {
    # Sockets of VMs, and processes.
    [[ $(tf ps --json | json 'len(d["vms"]) if isinstance(d, dict) else len(d)') == 0 ]]
    ! pgrep -f 'twofold run --name measure-'
}

pools() {
    cat /sys/kernel/mm/hugepages/*/nr_hugepages 2>/dev/null || true
}

@test "measure: the result is what the schema says, walks have the references of the formula" {
    need_kvm
    local before
    before=$(pools)
    measure 25s
    valid
    # All combinations are there, measured or with a reason.
    [[ $(RESULT | json 'sorted({(c["paging"], c["guest_page"] or 0, c["host_page"]) for c in d["cells"]}) == sorted(
        [("native", 0, h) for h in (4096, 2 << 20)] +
        [(p, g, h) for p in ("nested", "shadow") for g in (4096, 2 << 20) for h in (4096, 2 << 20)])') == True ]]
    # The small footprint comes first; its cells have a figure, and their walks were looked at.
    [[ $(RESULT | json 'sum(1 for c in d["cells"] if c["footprint"] == 1 << 20 and "ns" in c and
        (c["paging"] == "native" or c["references"] is None or c["references"] >= 2)) >= 4') == True ]]
    [[ $(RESULT | json '{c["footprint"] for c in d["cells"] if c.get("repeat")} == {c["footprint"] for c in d["cells"]}') == True ]]
    [[ $(RESULT | json 'd["mode"], d["environment"]["kernel"]') == "('quick', '$(uname -r)')" ]]
    [[ $(RESULT | json 'len(d["environment"]["notes"]) >= 3 and len(d["verdict"]["reasons"]) > 0') == True ]]
    [[ -s $BATS_TEST_TMPDIR/text ]]
    [[ $(pools) == "$before" ]]
    nothing_left
}

@test "measure: Ctrl-C keeps what there is, gives huge pages back, status 130" {
    need_kvm
    local before pid status=0
    before=$(pools)
    # A shell's background jobs ignore SIGINT.
    env --default-signal=INT "$TWOFOLD" measure --quick -o "$BATS_TEST_TMPDIR/result.html" \
        >"$BATS_TEST_TMPDIR/text" 2>"$BATS_TEST_TMPDIR/err" 3>&- &
    pid=$!
    vm_pids+=("$pid")
    wait_for eval "$TWOFOLD ps | grep -q measure-"
    sleep 4
    kill -INT "$pid"
    # Impatience does not cost the report: files are whole, or not there.
    for _ in 1 2 3 4 5; do
        sleep 0.1
        kill -INT "$pid" 2>/dev/null || true
    done
    wait "$pid" || status=$?
    [[ $status -eq 130 ]]
    valid
    [[ $(RESULT | json 'd["complete"], any(c["state"] == "not run" and "signal" in c["why"] for c in d["cells"] + d["loads"])') == "(False, True)" ]]
    [[ $(RESULT | json 'any("signal" in r for r in d["verdict"]["reasons"])') == True ]]
    [[ -s $BATS_TEST_TMPDIR/result.html && -s $BATS_TEST_TMPDIR/result.csv && ! -s $BATS_TEST_TMPDIR/err ]]
    grep -q '</html>' "$BATS_TEST_TMPDIR/result.html"
    [[ -z $(find "$BATS_TEST_TMPDIR" -name '*.tmp') ]]
    [[ $(pools) == "$before" ]]
    nothing_left
}

@test "measure: a program on the same CPU is told" {
    local cpu pid
    cpu=$(taskset -cp $$ | sed 's/.*[-,: ]//')
    taskset -c "$cpu" sh -c 'while :; do :; done' 3>&- &
    pid=$!
    vm_pids+=("$pid")
    measure 20s --cpu "$cpu"
    valid
    [[ $(RESULT | json 'd["environment"]["cpu_pinned"]') == "$cpu" ]]
    [[ $(RESULT | json 'd["verdict"]["trust"] in ("fair", "poor", "none") and
        any("CPU '"$cpu"' was disturbed" in r for r in d["verdict"]["reasons"])') == True ]]
}

@test "measure without /dev/kvm: native cells are left, the others say why" {
    need_root "hide /dev"
    unshare -m true 2>/dev/null || skip "skipped: no mount namespaces here"
    # shellcheck disable=SC2016 # expanded there
    timeout 60 unshare -m bash -c '
        mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"' - \
        "$TWOFOLD" measure --quick --limit 15s --json "$BATS_TEST_TMPDIR/result.json" >/dev/null
    valid
    [[ $(RESULT | json '{(c["paging"] == "native", c["state"] == "not available") for c in d["cells"]} ==
        {(True, False), (False, True)}') == True ]]
    [[ $(RESULT | json 'all("/dev/kvm" in c["why"] for c in d["cells"] if c["paging"] != "native")') == True ]]
    [[ $(RESULT | json '{l["state"] for l in d["loads"]}, d["environment"]["kvm"]') == "({'not available'}, '')" ]]
    [[ $(RESULT | json 'any(c["state"] in ("measured", "noisy") for c in d["cells"])') == True ]]
}

@test "measure with too little memory says how much it takes" {
    need_kvm
    need_root "show another /proc/meminfo"
    unshare -m true 2>/dev/null || skip "skipped: no mount namespaces here"
    sed 's/^MemAvailable:.*/MemAvailable:   40000 kB/' /proc/meminfo >"$BATS_TEST_TMPDIR/meminfo"
    # shellcheck disable=SC2016 # expanded there
    timeout 60 unshare -m bash -c '
        mount --bind "$1" /proc/meminfo && shift && exec "$@"' - "$BATS_TEST_TMPDIR/meminfo" \
        "$TWOFOLD" measure --quick --limit 15s --json "$BATS_TEST_TMPDIR/result.json" >/dev/null
    valid
    [[ $(RESULT | json 'all(c["state"] == "not available" and "too little memory: it takes" in c["why"]
        for c in d["cells"] if c["paging"] != "native")') == True ]]
    [[ $(RESULT | json 'any("ns" in c for c in d["cells"] if c["paging"] == "native")') == True ]]
}

@test "measure: what is wrong is said at once, status 2" {
    run --separate-stderr tf measure -o /no/such/report.html
    refused 2
    [[ $stderr == *"/no/such/report.html"*"can't be written"* ]]
    run --separate-stderr tf measure --json "$BATS_TEST_TMPDIR"
    refused 2
    run --separate-stderr tf measure -o "$BATS_TEST_TMPDIR/report.txt"
    refused 2
    [[ $stderr == *"ends with .html"* ]]
    run --separate-stderr tf measure --quick --full
    refused 2
    run --separate-stderr tf measure --kernel /no/such
    refused 2
    [[ $stderr == *"/no/such"* ]]
    run --separate-stderr tf measure --cpu 4095
    refused 2
    run --separate-stderr tf measure --cpu x
    refused 2
    run --separate-stderr tf measure --limit 0
    refused 2
    run --separate-stderr tf measure more
    refused 2
    # A file that would have been written is not left behind, one that is there is not emptied.
    echo mine >"$BATS_TEST_TMPDIR/mine.json"
    run --separate-stderr tf measure --json "$BATS_TEST_TMPDIR/mine.json" -o /no/such/x.html
    refused 2
    [[ $(cat "$BATS_TEST_TMPDIR/mine.json") == mine ]]
}
