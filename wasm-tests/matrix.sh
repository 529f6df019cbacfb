#!/usr/bin/env bash
# Runs the tests in the Envoys of these versions, which `make` has fetched, and prints a table. What a test says
# that an Envoy cannot do stands below it.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
table='| Envoy | passed | failed |\n| --- | --- | --- |\n'
lacks=''
for version in "$@"; do
    log=.envoy/$version/test.log
    echo "Envoy $version: $log" >&2
    ENVOY=$PWD/.envoy/$version/envoy cargo test --locked --package wasm-tests --test envoy -- --show-output >"$log" 2>&1 || status=1
    passed=$(sed -nE 's/^test result: .* ([0-9]+) passed; .*/\1/p' "$log")
    failed=$(sed -nE 's/^test result: .* ([0-9]+) failed; .*/\1/p' "$log")
    table+="| $version | ${passed:-none} | ${failed:-it did not run} |\n"
    lacks+=$(sed -nE "s/^not in this Envoy: (.*)/$version lacks \1/p" "$log" | sort -u | sed 's/$/\\n/' | tr -d '\n')
    grep -E '^test .* FAILED$' "$log" >&2
done
printf "$table\n$lacks"
exit $status
