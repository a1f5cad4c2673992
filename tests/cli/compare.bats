#!/usr/bin/env bats
# twofold compare: two results of `measure`. They are made up (tests/cli/measure/make), so that it
# is known what differs. None of this needs /dev/kvm.

load helper

MADE=$BATS_TEST_DIRNAME/measure

# made NAME OPTIONS...: a result in $BATS_TEST_TMPDIR/NAME.json
made() {
    local name=$1
    shift
    python3 "$MADE/make" "$@" >"$BATS_TEST_TMPDIR/$name.json"
}

# compared A B: the JSON of a comparison, by made()'s names, into $BATS_TEST_TMPDIR/out
compared() {
    tf compare --json "$BATS_TEST_TMPDIR/$1.json" "$BATS_TEST_TMPDIR/$2.json" >"$BATS_TEST_TMPDIR/out"
}

# says PYTHON-EXPRESSION: of the last comparison
says() {
    json "$1" <"$BATS_TEST_TMPDIR/out"
}

@test "the stored result is what its maker makes" {
    made a
    diff "$BATS_TEST_TMPDIR/a.json" "$MADE/result.json"
}

@test "made-up results are what the schema says" {
    python3 -c 'import jsonschema' 2>/dev/null || skip "skipped: needs python3-jsonschema"
    made a --seed 3 --emulated --rounds 3
    local f
    for f in "$MADE/result.json" "$BATS_TEST_TMPDIR/a.json"; do
        python3 - "$ROOT/docs/measure.schema.json" "$f" <<'PYTHON'
import json, sys
import jsonschema
schema, result = (json.load(open(name)) for name in sys.argv[1:])
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.Draft202012Validator(schema).validate(result)
# A fixture that has not all of it tests less than it seems to.
states = {c["state"] for c in result["cells"]}
assert states == set(schema["$defs"]["state"]["enum"]), states
PYTHON
    done
}

@test "compare refuses what the schema refuses, and takes what it takes" {
    python3 -c 'import jsonschema' 2>/dev/null || skip "skipped: needs python3-jsonschema"
    python3 - "$TWOFOLD" "$ROOT/docs/measure.schema.json" "$MADE/result.json" "$BATS_TEST_TMPDIR/x.json" <<'PYTHON'
import copy, json, random, subprocess, sys
import jsonschema
twofold, schema, name, changed = sys.argv[1:]
schema, result = json.load(open(schema)), json.load(open(name))
validator = jsonschema.Draft202012Validator(schema)
rng = random.Random(7)
# All kinds of places once: a few cells and loads are enough.
by_state = {c["state"]: c for c in result["cells"]}
result["cells"], result["loads"] = list(by_state.values()) + result["cells"][:1], result["loads"][-2:]
for item in result["cells"] + result["loads"]:
    if "ns" in item:
        item["ns"]["samples"] = item["ns"]["samples"][:8]

def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], path + (key,))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield from places(value[i], path + (i,))

values = [None, True, False, 0, 1, -1, 0.5, 2.0, 4096, "", "measured", "native", [], {}, [1], {"a": 1}]
verdicts = [0, 0]
for path in rng.sample([p for p in places(result) if p], 250):
    r = copy.deepcopy(result)
    at = r
    for step in path[:-1]:
        at = at[step]
    how = rng.randrange(6)
    if how == 0 and isinstance(at, dict):
        del at[path[-1]]
    elif how == 1 and isinstance(at, dict):
        at["unheard-of"] = 1
    else:
        at[path[-1]] = rng.choice(values)
    # What a schema can't say (a state promises figures) is checked as well: leave it alone here.
    if path[-1] in ("median", "low", "high", "ns", "state"):
        continue
    # JSON has one kind of number: 2.0 is an integer for the schema, but no C program's.
    wanted = 0 if validator.is_valid(r) else 2
    if '2.0' in json.dumps(at.get(path[-1]) if isinstance(at, dict) and path[-1] in at else None):
        continue
    json.dump(r, open(changed, "w"))
    done = subprocess.run([twofold, "compare", changed, name], capture_output=True, text=True)
    assert done.returncode == wanted, (path, how, done.returncode, done.stderr)
    if wanted:
        assert done.stderr.count("\n") == 1 and changed in done.stderr, done.stderr
    verdicts[wanted // 2] += 1
print(verdicts)
assert min(verdicts) > 20
PYTHON
}

@test "compare: wrong usage, and files that are no result" {
    run --separate-stderr tf compare
    refused 2 && [[ $stderr == *"takes two results"* ]]
    run --separate-stderr tf compare "$MADE/result.json"
    refused 2
    run --separate-stderr tf compare --fast "$MADE/result.json" "$MADE/result.json"
    refused 2 && [[ $stderr == *"--fast is no option"* ]]
    run --separate-stderr tf compare "$MADE/result.json" /nonexistent.json
    refused 2 && [[ $stderr == *"/nonexistent.json can't be opened"* ]]
    run --separate-stderr tf compare "$BATS_TEST_TMPDIR" "$MADE/result.json"
    refused 2
    head -c 5000 "$MADE/result.json" >"$BATS_TEST_TMPDIR/half"
    run --separate-stderr tf compare "$MADE/result.json" "$BATS_TEST_TMPDIR/half"
    refused 2 && [[ $stderr == *"half is no JSON: line "* ]]
    sed 's/"footprint": 1048576/"footprint": "1M"/' "$MADE/result.json" >"$BATS_TEST_TMPDIR/text"
    run --separate-stderr tf compare "$MADE/result.json" "$BATS_TEST_TMPDIR/text"
    refused 2 && [[ $stderr == *"text is no result of 'twofold measure': cells[22].footprint is no whole number" ]]
    run --separate-stderr tf compare "$MADE/result.json" <(printf '{"x":%s' "$(printf '[%.0s' {1..5000})")
    refused 2
    tf compare --help | grep -q '^usage: twofold compare'
}

@test "compare: a result and itself differ nowhere" {
    made a
    compared a a
    [[ $(says 'd["differ"], d["compared"] > 80, d["environment"]') == "(0, True, [])" ]]
    [[ $(says 'all(r["ratio"] == 1 for r in d["cells"] + d["loads"] if "ratio" in r)') == True ]]
    [[ $(says '"both files are the same result" in d["warnings"]') == True ]]
    run tf compare "$BATS_TEST_TMPDIR/a.json" "$BATS_TEST_TMPDIR/a.json"
    [[ $status -eq 0 && $output == *"environment: the same"* && $output == *"differs: 0 of "* ]]
}

@test "compare: rounds of the same distribution differ nowhere" {
    made a --seed 11
    made b --seed 12
    compared a b
    [[ $(says 'd["differ"], d["environment"]') == "(0, [])" ]]
}

@test "compare finds planted differences of 10 %, no others, and their direction" {
    made a --seed 11
    made b --seed 12 --slower nested/4K/2M=1.1 --slower native/-/4K=0.9 --slower shadow/forks=1.1
    compared a b
    [[ $(says 'sorted({(r["paging"], r["guest_page"], r["host_page"]) for r in d["cells"]
        if r["says"] == "differs"}, key=str)') == "[('native', None, 4096), ('nested', 4096, 2097152)]" ]]
    # In all five footprints each.
    [[ $(says 'd["differ"], [(r["paging"], r["name"]) for r in d["loads"] if r["says"] == "differs"]') == \
        "(11, [('shadow', 'forks')])" ]]
    [[ $(says 'all((0.88 < r["ratio"] < 0.92 if r["paging"] == "native" else 1.08 < r["ratio"] < 1.13) and
        r["ratio_low"] <= r["ratio"] <= r["ratio_high"] for r in d["cells"] + d["loads"]
        if r["says"] == "differs")') == True ]]
    run tf compare "$BATS_TEST_TMPDIR/a.json" "$BATS_TEST_TMPDIR/b.json"
    [[ $status -eq 0 && $output == *"differs: 11 of "* && $output == *"nested 4K in 2M, 64M"* ]]
    local line
    for line in "${lines[@]}"; do ((${#line} <= 80)); done
}

@test "compare: medians are the files', and p is corrected by Holm's rule" {
    made a --seed 11
    made b --seed 12 --slower nested/4K/2M=1.01
    compared a b
    python3 - "$BATS_TEST_TMPDIR" <<'PYTHON'
import json, sys
a, b, out = (json.load(open(f"{sys.argv[1]}/{name}")) for name in ("a.json", "b.json", "out"))
key = lambda c: (c["paging"], c["guest_page"], c["host_page"], c["footprint"])
of = [{key(c): c["ns"]["median"] for c in r["cells"] if "ns" in c and not c.get("repeat")} for r in (a, b)]
rows = [r for r in out["cells"] + out["loads"] if r["says"] != "can't be compared"]
near = lambda x, y: abs(x - y) <= 1e-6 * max(abs(x), abs(y))
for r in out["cells"]:
    if "ratio" in r:
        assert near(r["a_ns"], of[0][key(r)]) and near(r["b_ns"], of[1][key(r)])
        assert near(r["ratio"], r["b_ns"] / r["a_ns"])
# From the smallest p on: times how many are left, never below the one before.
least, m = 0, len(rows)
assert m == out["compared"]
for i, r in enumerate(sorted(rows, key=lambda r: r["p"])):
    least = max(least, r["p"] * (m - i))
    assert near(r["p_holm"], min(1, least)), (r, least)
    assert (r["says"] == "differs") == (least < 0.05)
PYTHON
}

@test "compare says why something can't be compared" {
    made a
    made b --seed 2
    python3 - "$BATS_TEST_TMPDIR/b.json" <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1]))
r["cells"] = [c for c in r["cells"] if (c["paging"], c["host_page"]) != ("native", 2 << 20)]
r["loads"].append(dict(r["loads"][0], name="other"))
r["cells"][0]["ns"]["samples"] = []
json.dump(r, open(sys.argv[1], "w"))
PYTHON
    compared a b
    [[ $(says '[r["why"] for r in d["cells"] if r["paging"] == "native" and r["host_page"] == 2 << 20]') == \
        "['B has none', 'B has none', 'B has none', 'B has none', 'B has none']" ]]
    [[ $(says '[r["why"] for r in d["loads"] if r["name"] == "other"]') == "['A has none']" ]]
    [[ $(says 'd["cells"][0]["why"]') == "B has no samples" ]]
    [[ $(says '{r["why"] for r in d["cells"] if r["says"] == "can'"'"'t be compared" and
        r["why"].startswith(("noisy", "failed"))}') == *"noisy in A: its interval is wider than 10 % of the median"* ]]
    run tf compare "$BATS_TEST_TMPDIR/a.json" "$BATS_TEST_TMPDIR/b.json"
    [[ $output == *"can't be compared: "* && $output == *"5, B has none"* ]]
}

@test "compare: too few rounds are told" {
    made a --rounds 3
    made b --rounds 3 --seed 2 --slower nested/4K/4K=2
    compared a b
    [[ $(says 'd["compared"], any("3 and 3 rounds are too few to tell" == r["why"] for r in d["cells"])') == "(0, True)" ]]
    # Enough for one comparison, not for ninety.
    made a --rounds 5
    made b --rounds 5 --seed 2 --slower nested/4K/4K=2
    compared a b
    [[ $(says 'd["differ"], any("too few rounds" in w for w in d["warnings"])') == "(0, True)" ]]
}

@test "compare: environment and warnings come first" {
    made a
    made b --emulated --cpu $'Other\e[31m CPU'
    compared a b
    [[ $(says '[e["what"] for e in d["environment"]]') == "['cpu', 'is_guest', 'hypervisor', 'emulated']" ]]
    [[ $(says '[w for w in d["warnings"] if "emulated" in w or "trust" in w]') == \
        "['B is of a machine that is emulated: its times mean nothing', 'B says of itself that trust in it is: none']" ]]
    run tf compare "$BATS_TEST_TMPDIR/a.json" "$BATS_TEST_TMPDIR/b.json"
    [[ $status -eq 0 && $output != *$'\e'* && $output == *"warning: "*"emulated"*"environment: what differs"*"Other?[31m CPU"*"differs: "* ]]
}
