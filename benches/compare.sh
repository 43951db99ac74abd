#!/usr/bin/env bash
# Whole processes, side by side with other tools, in one run: ratios are what counts, for timings are noisy.
#
#   benches/compare.sh [ROOT.tar]     as an unprivileged user; needs hyperfine and bubblewrap
#
# Without a root file system one is made by mmdebstrap (Debian minbase), which takes a minute. With BIG=1 a second image
# of about 1 GB is made from it, to show that nothing grows with the size of the image.
set -euo pipefail
treebox=${TREEBOX:-$(dirname "$0")/../target/release/treebox}
treebox=$(realpath "$treebox")
work=$(mktemp -d)
trap 'chmod -R u+rwX "$work" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"
export HOME=$work TREEBOX_STORE=$work/store
unset XDG_DATA_HOME
for tool in hyperfine bwrap; do
    command -v "$tool" >/dev/null || { echo "missing: $tool (Debian packages hyperfine, bubblewrap)" >&2; exit 1; }
done

tar=${1:-}
if [[ -z "$tar" ]]; then
    tar=$work/debian.tar
    mmdebstrap --variant=minbase --mode=unshare bookworm "$tar"
fi
runs=${RUNS:-60}

median() { python3 -c 'import json,sys; print("\n".join("%-34s %8.2f ms  min %8.2f  %5.2f x" % (r["command"], r["median"]*1e3, r["min"]*1e3, r["median"]/json.load(open(sys.argv[1]))["results"][0]["median"]) for r in json.load(open(sys.argv[1]))["results"]))' "$1"; }

echo "== import against tar -xf of the same file"
hyperfine -N --runs 5 --prepare "sh -c 'rm -rf $work/tree; mkdir $work/tree'" -n "tar -xf" "tar -xf $tar -C tree --exclude=./dev" \
    --export-json tar.json >/dev/null 2>&1
hyperfine -N --runs 5 --prepare "rm -rf $work/one" -n "treebox import" "$treebox --store $work/one -q import tar:$tar --name x" \
    --export-json import.json >/dev/null 2>&1
python3 - <<'P'
import json
tar, ours = (json.load(open(f))["results"][0]["median"] for f in ("tar.json", "import.json"))
print("tar -xf %.2f s, import %.2f s: %.2f x" % (tar, ours, ours / tar))
P
echo "largest memory of an import: $(python3 -c 'import resource,subprocess,sys; subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss//1024, "MiB")' "$treebox" --store "$work/two" -q import "tar:$tar" --name x)"

mkdir -p tree/proc tree/dev
measure() { # NAME IMAGE
    "$treebox" -q run --from "$2" --disposable -- /bin/true
    "$treebox" -q run --from "$2" -c 'echo hit > /hit'
    cat >step <<S
#!/bin/sh
read -r id </proc/sys/kernel/random/uuid
exec $treebox -q run --from $2 -c "echo \$id > /f"
S
    chmod +x step
    echo "== $1"
    hyperfine -N --warmup 5 --runs "$runs" \
        -n "bwrap /bin/true" "bwrap --bind $work/tree / --proc /proc --dev /dev --unshare-all /bin/true" \
        -n "run + commit of one file" ./step \
        -n "disposable run" "$treebox -q run --from $2 --disposable -- /bin/true" \
        -n "cache hit" "$treebox -q run --from $2 -c 'echo hit > /hit'" \
        -n "branch" "$treebox -q branch -f other $2" \
        -n "switch" "$treebox -q switch main" --export-json "$2.json" >/dev/null 2>&1
    median "$2.json"
}
"$treebox" -q import "tar:$tar" --name debian >/dev/null
"$treebox" -q switch -c main debian
measure "Debian minbase" debian

echo "== length of the chain"
chain() { local n; for ((n = $1; n < $2; n++)); do "$treebox" -q run -c "echo $n > /chain"; done; }
chain 0 5
"$treebox" -q tag step5
chain 5 200
"$treebox" -q tag step200
for at in step5 step200; do
    "$treebox" -q run --from $at --disposable -- /bin/true
    hyperfine -N --warmup 5 --runs "$runs" -n "$at" "$treebox -q run --from $at --fresh -c 'echo x > /x'" --export-json $at.json >/dev/null 2>&1
    median $at.json
done

echo "== disk of 100 children of one state, each writing one file of 10 bytes"
# Directories of mapped ids cannot be read from outside; they are the same before and after.
disk() { { du -s --block-size=1 "$work/store" 2>/dev/null || true; } | cut -f1; }
before=$(disk)
for n in $(seq 100); do "$treebox" -q run --from debian -c "printf %010d $n > /child"; done
after=$(disk)
echo "$(((after - before) / 100 - 4096)) bytes each beyond the file's own block"

if [[ -n "${BIG:-}" ]]; then
    mkdir big
    for n in $(seq 5); do mkdir "big/copy$n"; tar -xf "$tar" -C "big/copy$n" --exclude=./dev; find "big/copy$n" -type f -exec sh -c 'for f; do echo '"$n"' >> "$f"; done' _ {} + 2>/dev/null || true; done
    tar -xf "$tar" -C big --exclude=./dev
    tar -cf big.tar -C big .
    "$treebox" -q import tar:big.tar --name big >/dev/null
    measure "the same and 5 altered copies of it: $(du -sh big.tar | cut -f1)" big
fi
