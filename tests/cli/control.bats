#!/usr/bin/env bats
# ps, stat, pause, resume, stop; names, dead and hung monitors; the protocol itself.

load helper

sockets() {
    ls "$XDG_RUNTIME_DIR/twofold"
}

# --- stat against what a guest is known to do ----------------------------------------------

@test "stat counts exactly what the guest did: 1000 OUTs to a port, 5 bytes on the line" {
    need_kvm
    start outs "$KERNELS/cli_outs.elf"
    wait_for grep -q "done" "$BATS_TEST_TMPDIR/outs.out"
    tf stat --json outs >"$BATS_TEST_TMPDIR/stat"
    run json '[v["exits"]["pio"] for v in d["vcpus"]],
        [e["writes"] for e in d["devices"] if e["base"] <= 0x80 < e["base"] + e["length"]],
        [e["writes"] for e in d["devices"] if e["name"] == "serial"],
        sum(e["reads"] for e in d["devices"]), d["unclaimed_accesses"]' <"$BATS_TEST_TMPDIR/stat"
    [[ $output == "([1005], [1000], [5], 0, 0)" ]]
    # All exits have a reason.
    run json 'all(v["exits"]["total"] == sum(n for r, n in v["exits"].items() if r != "total")
        for v in d["vcpus"])' <"$BATS_TEST_TMPDIR/stat"
    [[ $output == True ]]
}

@test "stat: every VM has a PCI bus; it is printed once there is more than the bridge" {
    need_kvm
    start bus "$KERNELS/spin.elf"
    tf stat --json bus >"$BATS_TEST_TMPDIR/stat"
    run json '[(f["name"], f["bdf"], f["class"], f["bars"], f["interrupts"], f["sent"])
        for f in d["pci"]]' <"$BATS_TEST_TMPDIR/stat"
    [[ $output == "[('host bridge', '00:00.0', '0x60000', [], 'none', 0)]" ]]
    run tf stat bus
    [[ $status -eq 0 && $output != *"host bridge"* ]]
}

@test "stat: the configuration, memory that is really there, times" {
    need_kvm
    start conf --mem 64M --cpus 3 --backing anon --append "some text" "$KERNELS/spin.elf"
    tf stat --json conf >"$BATS_TEST_TMPDIR/stat"
    run json 'd["name"], d["state"], d["cpus"], len(d["vcpus"]), d["mem_bytes"], d["backing"],
        d["cmdline"], d["kernel"] == sys.argv[0] or d["kernel"].endswith("spin.elf"),
        sum(s["size"] for s in d["memory"]["slots"]), d["memory"]["mapped_bytes"]["2M"]' \
        <"$BATS_TEST_TMPDIR/stat"
    [[ $output == "('conf', 'running', 3, 3, 67108864, 'anon', 'some text', True, 67108864, 0)" ]]
    [[ $(json 'd["pid"]' <"$BATS_TEST_TMPDIR/stat") == "$pid" ]]
    # Some pages are there, not all; more time passes than the start took.
    run json '0 < d["memory"]["resident_bytes"] < d["mem_bytes"] // 4,
        0 < d["memory"]["monitor_bytes"] < 64 << 20, d["times"]["create_ns"] > 0' \
        <"$BATS_TEST_TMPDIR/stat"
    [[ $output == "(True, True, True)" ]]
    run tf stat conf
    [[ $status -eq 0 && $output == "conf: running, pid $pid"* && $output == *"serial"*0x3f8* ]]
}

@test "stat: guest memory with --backing thp is mapped by 2M pages" {
    need_kvm
    grep -q '\[never\]' /sys/kernel/mm/transparent_hugepage/enabled &&
        skip "skipped: no transparent huge pages on this host"
    start thp --mem 64M --backing thp "$KERNELS/spin.elf"
    (($(stat_of thp 'd["memory"]["mapped_bytes"]["2M"]') > 0))
}

@test "ps lists what runs, in a table and as JSON" {
    need_kvm
    run tf ps
    [[ $status -eq 0 && ${#lines[@]} -eq 1 ]]
    [[ $(tf ps --json) == "[]" ]]
    start first "$KERNELS/spin.elf"
    start second --mem 64M "$KERNELS/spin.elf"
    run tf ps
    [[ ${#lines[@]} -eq 3 && ${lines[1]} == first*running* && ${lines[2]} == second*"64 MiB"* ]]
    [[ $(tf ps --json | json '[v["name"] for v in d]') == "['first', 'second']" ]]
}

# --- pause, resume, stop ----------------------------------------------------------------------

@test "pause stops the vCPUs, resume lets them go on" {
    need_kvm
    start ticks --cpus 2 "$KERNELS/cli_ticks.elf"
    local exits='d["vcpus"][0]["exits"]["total"]' before after
    wait_for grep -q ticking "$BATS_TEST_TMPDIR/ticks.out"
    run --separate-stderr tf pause ticks
    [[ $status -eq 0 && -z $output && -z $stderr ]]
    [[ $(stat_of ticks 'd["state"]') == paused ]]
    before=$(stat_of ticks "$exits")
    sleep 0.3
    after=$(stat_of ticks "$exits")
    [[ $before -gt 0 && $before -eq $after ]]
    tf pause ticks
    [[ $(tf resume --json ticks | json 'd["state"]') == running ]]
    moved() {
        (($(stat_of ticks "$exits") > after))
    }
    wait_for moved
    tf resume ticks
}

@test "a vCPU that waits for a stalled reader can't be paused: one line, and later it can" {
    need_kvm
    mkfifo "$BATS_TEST_TMPDIR/fifo"
    exec 4<>"$BATS_TEST_TMPDIR/fifo"
    "$TWOFOLD" run --name stalled --timeout 60 "$KERNELS/cli_lines.elf" \
        </dev/null >&4 2>/dev/null 3>&- 4>&4 &
    vm_pids+=("$!")
    wait_for "$TWOFOLD" stat stalled
    # Stalled: the counter does not move any more.
    full() {
        local before
        before=$(stat_of stalled 'd["vcpus"][0]["exits"]["pio"]')
        sleep 0.2
        [[ $(stat_of stalled 'd["vcpus"][0]["exits"]["pio"]') -eq $before ]]
    }
    wait_for full
    run --separate-stderr tf pause stalled
    refused 1
    [[ $stderr == *"stalled reader"* ]]
    [[ $(stat_of stalled 'd["state"]') == running ]]
    cat <&4 >/dev/null 3>&- &
    vm_pids+=("$!")
    tf pause stalled
    [[ $(stat_of stalled 'd["state"]') == paused ]]
    tf stop stalled
    exec 4>&-
}

@test "stop ends a vCPU that spins, also a paused one, and returns when the process is gone" {
    need_kvm
    local state status
    for state in running paused; do
        start spin --cpus 2 "$KERNELS/spin.elf"
        [[ $state == running ]] || tf pause spin
        run --separate-stderr tf stop spin
        [[ $status -eq 0 && -z $output && -z $stderr ]]
        [[ -z $(sockets) ]]
        status=0
        wait "$pid" || status=$?
        [[ $status -eq 143 ]]
        grep -q "twofold stop" "$BATS_TEST_TMPDIR/spin.err"
    done
}

@test "stop --json" {
    need_kvm
    start spin "$KERNELS/spin.elf"
    run tf stop --json spin
    [[ $(json '(d["name"], d["state"], d["killed"])' <<<"$output") == "('spin', 'gone', False)" ]]
}

@test "the name of no VM: status 1" {
    local command
    for command in stat pause resume stop console; do
        run --separate-stderr tf "$command" nobody
        refused 1
        [[ $stderr == *"'nobody'"* ]]
    done
}

# --- names, dead and hung monitors ----------------------------------------------------------------

@test "two VMs of one name: the second is refused, the first goes on" {
    need_kvm
    start twin "$KERNELS/spin.elf"
    run --separate-stderr tf run --name twin "$KERNELS/spin.elf"
    refused 1
    [[ $stderr == *"'twin' runs already"* ]]
    [[ $(stat_of twin 'd["pid"]') == "$pid" ]]
}

@test "a start that is refused for its name leaves the console and trace file alone" {
    need_kvm
    start same "$KERNELS/spin.elf"
    echo precious >"$BATS_TEST_TMPDIR/log"
    echo precious >"$BATS_TEST_TMPDIR/trace"
    run --separate-stderr tf run --name same --console "file:$BATS_TEST_TMPDIR/log" \
        --trace="$BATS_TEST_TMPDIR/trace" "$KERNELS/spin.elf"
    refused 1
    [[ $(<"$BATS_TEST_TMPDIR/log") == precious && $(<"$BATS_TEST_TMPDIR/trace") == precious ]]
    # One that runs empties them first.
    tf run --console "file:$BATS_TEST_TMPDIR/log" --trace="$BATS_TEST_TMPDIR/trace" \
        "$KERNELS/cli_args.elf" || true
    run ! grep -q precious "$BATS_TEST_TMPDIR/log" "$BATS_TEST_TMPDIR/trace"
}

@test "the socket is its owner's alone, whatever the umask and the folder's mode" {
    need_kvm
    mkdir -m 755 "$XDG_RUNTIME_DIR/twofold"
    umask 0
    start open "$KERNELS/spin.elf"
    [[ $(stat -c %a "$XDG_RUNTIME_DIR/twofold/open.sock") == 600 ]]
}

@test "eight starts of one name at once: one runs" {
    need_kvm
    local i pids=() refused=0
    for i in {1..8}; do
        "$TWOFOLD" run --name race --timeout 60 "$KERNELS/spin.elf" </dev/null >/dev/null \
            2>"$BATS_TEST_TMPDIR/err$i" 3>&- &
        pids+=("$!")
        vm_pids+=("$!")
    done
    seven_left() {
        [[ $(grep -l "runs already" "$BATS_TEST_TMPDIR"/err* | wc -l) -eq 7 ]]
    }
    wait_for seven_left
    tf stop race
    for i in "${pids[@]}"; do
        local status=0
        wait "$i" || status=$?
        [[ $status -eq 143 ]] || refused=$((refused + 1))
    done
    [[ $refused -eq 7 ]]
}

@test "a monitor that was killed: its name can be used at once" {
    need_kvm
    start dead "$KERNELS/spin.elf"
    kill -KILL "$pid"
    wait "$pid" || true
    [[ -S $XDG_RUNTIME_DIR/twofold/dead.sock ]]
    run --separate-stderr tf stat dead
    refused 1
    [[ $stderr == *"killed"* ]]
    run --separate-stderr tf run --name dead "$KERNELS/cli_args.elf" -- 4
    [[ $status -eq 4 && -z $stderr && -z $(sockets) ]]
}

@test "a monitor that was killed: ps shows it as gone, once, and cleans up" {
    need_kvm
    start dead "$KERNELS/spin.elf"
    kill -KILL "$pid"
    wait "$pid" || true
    [[ $(tf ps --json | json '[(v["name"], v["state"]) for v in d]') == "[('dead', 'gone')]" ]]
    [[ -z $(sockets) && $(tf ps --json) == "[]" ]]
}

@test "a socket that nobody listens on, without a lock, is replaced" {
    need_kvm
    mkdir -m 700 "$XDG_RUNTIME_DIR/twofold"
    python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' \
        "$XDG_RUNTIME_DIR/twofold/stale.sock"
    run tf run --name stale "$KERNELS/cli_args.elf" -- 6
    [[ $status -eq 6 && -z $(sockets) ]]
}

@test "a hung monitor: stop gives up with 124, --force kills it" {
    need_kvm
    start hung "$KERNELS/spin.elf"
    kill -STOP "$pid"
    until [[ $(ps -o stat= "$pid") == T* ]]; do sleep 0.05; done
    [[ $(tf ps --json | json 'd[0]["state"]') == stuck ]]
    run --separate-stderr tf stop --timeout 300ms hung
    refused 124
    run tf stop --timeout 300ms --force --json hung
    [[ $status -eq 0 && $(json 'd["killed"]' <<<"$output") == True ]]
    ! kill -0 "$pid" 2>/dev/null || [[ $(ps -o stat= "$pid") == Z* ]]
    [[ -z $(sockets) ]]
}

# --- the protocol ------------------------------------------------------------------------------------

@test "requests: one line each, answered in order, id given back" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    run ask vm '{"command":"version","id":[1,"x"]}' '' '{"id":2,"command":"status"}'
    [[ ${#lines[@]} -eq 2 ]]
    [[ $(json 'd["ok"], d["id"], d["result"]["protocol"]' <<<"${lines[0]}") == "(True, [1, 'x'], 1)" ]]
    [[ $(json 'd["ok"], d["id"], d["result"]["state"]' <<<"${lines[1]}") == "(True, 2, 'running')" ]]
}

@test "garbage is refused line by line, and the VM goes on" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    local bad
    for bad in 'hello' '{' '[]' '1' '"stop"' '{}' '{"command":1}' '{"command":"explode"}' \
        '{"command":"stop","arguments":[]}' '{"command":"stop","arguments":{"x":1}}' \
        '{"command":"stop","force":true}' '{"command":"status","command":"stop"}' \
        '{"command":"stop"} {"command":"stop"}' $'{"command":"st\xffop"}' \
        '{"command":"stop\u0000"}'; do
        run ask vm "$bad" '{"command":"status"}'
        [[ ${#lines[@]} -eq 2 ]] || {
            echo "$bad: $output" >&2
            return 1
        }
        [[ $(json 'd["ok"], len(d["error"]["text"]) > 0' <<<"${lines[0]}") == "(False, True)" ]]
        [[ $(json 'd["ok"]' <<<"${lines[1]}") == True ]]
    done
    [[ $(stat_of vm 'd["pid"]') == "$pid" ]]
}

@test "random bytes, endless lines, deep nesting, half lines, clients that leave" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    local sock=$XDG_RUNTIME_DIR/twofold/vm.sock i
    for i in 1 2 3; do
        head -c 300000 /dev/urandom | timeout 20 socat -t 1 - "UNIX-CONNECT:$sock" >/dev/null 2>&1 || true
    done
    # The longest line that there may be, newline included, and one byte more.
    run bash -c 'head -c 65535 /dev/zero | cat - <(echo) | timeout 20 socat -t 5 - "UNIX-CONNECT:$1"' - "$sock"
    [[ $(json 'd["error"]["code"]' <<<"$output") == EINVAL ]]
    run bash -c 'head -c 65536 /dev/zero | timeout 20 socat -t 5 - "UNIX-CONNECT:$1"' - "$sock"
    [[ $(json 'd["error"]["code"]' <<<"$output") == E2BIG ]]
    run ask vm "$(head -c 60000 /dev/zero | tr '\0' '[')"
    [[ $(json 'd["ok"]' <<<"$output") == False ]]
    # A request without its newline is none.
    printf '{"command":"stop"}' | timeout 20 socat -t 1 - "UNIX-CONNECT:$sock"
    [[ $(stat_of vm 'd["pid"]') == "$pid" ]]
}

@test "a client that asks much and reads nothing, and many that say nothing, keep nobody out" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    python3 - "$XDG_RUNTIME_DIR/twofold/vm.sock" >"$BATS_TEST_TMPDIR/ready" 3>&- <<'PYTHON' &
import signal, socket, sys
clients = []
for i in range(200):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    clients.append(s)
greedy = socket.socket(socket.AF_UNIX)
greedy.connect(sys.argv[1])
greedy.settimeout(0.5)
try:
    while True:
        greedy.send(b'{"command":"stat"}\n' * 100)
except (TimeoutError, BrokenPipeError):
    pass
print("ready", flush=True)
signal.pause()
PYTHON
    local client=$!
    vm_pids+=("$client")
    wait_for grep -q ready "$BATS_TEST_TMPDIR/ready"
    [[ $(stat_of vm 'd["pid"]') == "$pid" ]]
    tf stop vm
}

@test "a client that sends all it has and closes its half gets every reply" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    run bash -c 'for i in {1..3000}; do echo "{\"command\":\"status\",\"id\":$i}"; done |
        timeout 30 socat -t 20 - "UNIX-CONNECT:$1" | grep -c "\"ok\":true"' - \
        "$XDG_RUNTIME_DIR/twofold/vm.sock"
    [[ $output == 3000 ]]
}

@test "a greedy client gets every reply once it reads" {
    need_kvm
    start vm "$KERNELS/spin.elf"
    run timeout 30 python3 - "$XDG_RUNTIME_DIR/twofold/vm.sock" <<'PYTHON'
import json, socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
n = 2000
text = b"".join(b'{"command":"status","id":%d}\n' % i for i in range(n))
threading.Thread(target=s.sendall, args=(text,), daemon=True).start()
replies = s.makefile()
print(all(json.loads(replies.readline())["id"] == i for i in range(n)))
PYTHON
    [[ $output == True ]]
}

@test "what follows a console request in the same packet goes to the guest" {
    need_kvm
    start echo "$KERNELS/cli_echo.elf"
    run bash -c 'printf "{\"command\":\"console\"}\nabcq" |
        timeout 30 socat -t 10 - "UNIX-CONNECT:$1" | tail -n 1' - "$XDG_RUNTIME_DIR/twofold/echo.sock"
    [[ $output == "abc" ]]
}
