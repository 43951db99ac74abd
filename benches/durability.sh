#!/usr/bin/env bash
# What `--durability commit` costs against `batch` on a step that writes one file and commits it: whole processes, by turns, medians.
#
#     benches/durability.sh [ROUNDS [TREEBOX]]
#
# The stores are made in $TMPDIR: they must be on the disk that is meant.
set -euo pipefail

rounds=${1:-40}
treebox=${2:-target/release/treebox}
treebox=$(realpath "$treebox")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export HOME=$directory

# A store for each: going from one to the other costs a sync of its own.
for kind in commit batch; do
    "$treebox" --store "$directory/store-$kind" import host -q >/dev/null
    "$treebox" --store "$directory/store-$kind" switch -q -c main host
    # The first pays for what is done once.
    "$treebox" --store "$directory/store-$kind" --durability "$kind" run -q -c "echo first > /first"
done
for ((round = 0; round < rounds; round++)); do
    for kind in commit batch; do
        began=$(date +%s%N)
        "$treebox" --store "$directory/store-$kind" --durability "$kind" run -q -c "echo $round > /file"
        echo $((($(date +%s%N) - began) / 1000)) >>"$directory/$kind"
        # Each begins with nothing of the other's to be written.
        sync -f "$directory"
    done
done
for kind in commit batch; do
    sort -n "$directory/$kind" | awk -v kind="$kind" '
        { took[NR] = $1 }
        END { printf "%-7s median %5.1f ms, quartiles %5.1f and %5.1f ms, of %d\n", kind,
              took[int((NR + 1) / 2)] / 1000, took[int((NR + 3) / 4)] / 1000, took[int((3 * NR + 1) / 4)] / 1000, NR }'
done
