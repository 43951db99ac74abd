#!/usr/bin/env bash
# Images in, side by side with other tools in one run: ratios are what counts, for timings are noisy.
#
#   benches/images.sh [ROOT.tar]     as an unprivileged user with subordinate ids
#
# Needs the Debian packages umoci, skopeo, podman, zstd and python3; without a root file system also mmdebstrap, which makes
# one (Debian minbase). From it an image of about 1.2 GB with 55 000 entries is made: the root file system and six copies
# of it in which every file is another. Needs 20 GB of disk for each round.
#
# ROUNDS (3): how often everything is done. Contenders take turns, each in a directory of its own that stays until the end: on a disk
# mounted with `discard` the removal of one's files is paid by the next. REMOVE=1: elsewhere they can go at once, and one round's room is
# enough. ONLY: words that the names of contenders must hold one of. WORK: where, if not in a new directory below TMPDIR.
set -euo pipefail
# Without privileges podman leaves a process behind, which keeps its namespaces for the next call.
stop_podman() { local pid; if pid=$(cat "$work/run/libpod/tmp/pause.pid" 2>/dev/null); then kill -9 "$pid" || true; fi; }
here=$(realpath "$(dirname "$0")/..")
treebox=$(realpath "${TREEBOX:-$here/target/release/treebox}")
floor=${FLOOR:-}
if [[ -z "$floor" ]]; then
    floor=$(cd "$here" && cargo bench --locked --no-run --bench floor --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*floor[^"]*\)".*/\1/p')
fi
floor=$(realpath "$floor")
root=$(realpath -s "${1:-/nowhere}")
for tool in umoci skopeo podman zstd python3; do
    command -v "$tool" >/dev/null || { echo "missing: $tool" >&2; exit 1; }
done
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
if [[ -z "${WORK:-}" ]]; then
    # What podman made belongs to subordinate ids.
    trap 'cd /; podman unshare rm -rf "$work"/out 2>/dev/null; stop_podman; rm -rf "$work"' EXIT
else
    trap stop_podman EXIT
fi
cd "$work"
export HOME=$work TMPDIR=$work XDG_RUNTIME_DIR=$work/run
unset XDG_DATA_HOME TREEBOX_STORE
mkdir -p -m 700 run

make_archives() {
    [[ -e debian.tar ]] || if [[ -e "$root" ]]; then cp "$root" debian.tar; else
        mmdebstrap --quiet --variant=minbase --mode=unshare bookworm debian.tar
    fi
    [[ -e copy6.tar ]] || python3 - <<'P'
import io, tarfile
def copies(name, numbers):
    with tarfile.open(name, "w", format=tarfile.PAX_FORMAT) as out:
        for number in numbers:
            with tarfile.open("debian.tar") as source:
                for member in source:
                    body = source.extractfile(member).read() if member.isreg() else None
                    if member.ischr() or member.isblk():
                        continue
                    if number:
                        member.pax_headers.pop("path", None), member.pax_headers.pop("linkpath", None)
                        member.name = f"copy{number}/{member.name}"
                        if member.islnk():
                            member.linkname = f"copy{number}/{member.linkname}"
                        if body:
                            body += b"%d" % number
                            member.size = len(body)
                    out.addfile(member, io.BytesIO(body) if body is not None else None)
copies("big.tar", range(7))
for number in range(1, 7):
    copies(f"copy{number}.tar", [number])
P
}

make_images() {
    [[ ! -e images ]] || return 0
    umoci init --layout images
    local tag layer
    image() {
        tag=$1
        umoci new --image "images:$tag"
        for layer in "${@:2}"; do umoci raw add-layer --image "images:$tag" "$layer"; done
    }
    image debian debian.tar
    echo small >small && tar -cf small.tar small
    image small debian.tar small.tar
    image gzip big.tar
    image layers debian.tar copy{1,2,3,4,5,6}.tar
    skopeo --insecure-policy copy -q --dest-compress-format zstd oci:images:gzip oci:zstd:zstd
    skopeo --insecure-policy copy -q oci:images:gzip docker-archive:docker.tar:big:docker
}

echo "making the images" >&2
make_archives
make_images
export treebox floor ROUNDS="${ROUNDS:-3}" ONLY="${ONLY:-}" REMOVE="${REMOVE:-}"
python3 - <<'P'
import glob, json, os, resource, statistics, subprocess, sys, time

treebox, floor, rounds = os.environ["treebox"], os.environ["floor"], int(os.environ["ROUNDS"])
only = os.environ["ONLY"].split()
home = os.getcwd()

def layers(layout, tag):
    index = json.load(open(f"{layout}/index.json"))
    blob = lambda digest: f"{layout}/blobs/" + digest.replace(":", "/")
    for manifest in index["manifests"]:
        if manifest["annotations"]["org.opencontainers.image.ref.name"] == tag:
            return [blob(layer["digest"]) for layer in json.load(open(blob(manifest["digest"])))["layers"]]

number = 0
def place():
    """A directory for one measurement."""
    global number
    number += 1
    path = f"{home}/out/{number}"
    os.makedirs(path)
    return path

gzip, zstd, many = layers("images", "gzip"), layers("zstd", "zstd"), layers("images", "layers")
policy = "--insecure-policy"
def imports(source):
    return lambda at: [treebox, "--store", f"{at}/store", "-q", "import", source, "--name", "it"]
def podman(*words):
    return lambda at: ["podman", "--root", f"{at}/graph", "--runroot", f"{at}/run", "--storage-driver", "overlay", *words]
contenders = {
    "gzip -dc": lambda at: ["gzip", "-dc", *gzip],
    "zstd -dc": lambda at: ["zstd", "-qdc", *zstd],
    "the decoder, gzip": lambda at: [floor, "decode", *gzip],
    "the decoder, zstd": lambda at: [floor, "decode", *zstd],
    "the decoder, layers": lambda at: [floor, "decode", *many],
    "writing alone": lambda at: [floor, "write", "big.tar", f"{at}/files"],
    "tar -xf": lambda at: ["tar", "-xf", "big.tar", "-C", at],
    "tar -xf, sync": lambda at: ["sh", "-c", f"tar -xf big.tar -C {at} && sync -f {at}"],
    "import, gzip": imports("oci:images:gzip"),
    "import, zstd": imports("oci:zstd:zstd"),
    "import, layers": imports("oci:images:layers"),
    "import, docker-archive": imports("docker-archive:docker.tar"),
    "import, tar": imports("tar:big.tar"),
    "skopeo + umoci": lambda at: ["sh", "-c", f"skopeo {policy} copy -q oci:images:gzip oci:{at}/image:it && umoci unpack --rootless --image {at}/image:it {at}/bundle"],
    "podman load": podman("load", "-q", "-i", "docker.tar"),
    "podman pull": podman("pull", "-q", "oci:images:gzip"),
}
if only:
    contenders = {name: command for name, command in contenders.items() if any(word in name for word in only)}
times, memory, cpu, kept = {}, {}, {}, {}
def measure(name, command, cwd=home):
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=cwd)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    if status:
        print(f"{name} failed: {error.decode()[-300:]}", flush=True)
        return
    times.setdefault(name, []).append(took)
    cpu.setdefault(name, []).append(usage.ru_utime + usage.ru_stime)
    memory[name] = max(memory.get(name, 0), usage.ru_maxrss // 1024)

for round in range(rounds):
    names = list(contenders)
    names = names[round % len(names):] + names[:round % len(names)]
    for name in names:
        at = place()
        subprocess.run(["sync"])
        measure(name, contenders[name](at))
        kept[name] = at
        if os.environ["REMOVE"] and not (name == "import, layers" and round == rounds - 1):
            subprocess.run(["podman", "unshare", "rm", "-rf", at] if name.startswith("podman") else ["rm", "-rf", at])

def row(name, against=None):
    if name in times:
        median = statistics.median(times[name])
        ratio = f"{median / against:6.2f} x" if against else ""
        print(f"{name:34} {median:8.2f} s  ({min(times[name]):.2f} to {max(times[name]):.2f})  processor {statistics.median(cpu[name]):6.2f} s  memory {memory[name]:4} MiB {ratio}", flush=True)

print(f"== the big image, medians of {rounds}; of an import also the ratio to the slower of its decoder and of writing alone")
middle = lambda name: statistics.median(times[name]) if name in times else 0
for name in contenders:
    form = name.removeprefix("import, ")
    row(name, max(middle(f"the decoder, {form}"), middle("writing alone")) if name.startswith("import, ") else None)

print("== an image that is known, and one whose base is known")
known = kept.get("import, layers")
if known:
    again = [treebox, "--store", f"{known}/store", "-q", "import", "oci:images:layers", "--name", "it"]
    for _ in range(20):
        measure("again, whole process", again)
    row("again, whole process")
    at = place()
    measure("Debian minbase", imports("oci:images:debian")(at))
    measure("the same and a small layer", imports("oci:images:small")(at))
    row("Debian minbase")
    row("the same and a small layer")

print("== an image out, one layer")
if known:
    plain = place() + "/plain.tar"
    subprocess.run([treebox, "--store", f"{known}/store", "-q", "export", "it", f"tar:{plain}"], check=True)
    for round in range(rounds):
        for kind in ("gzip", "zstd"):
            at = place()
            measure(f"compression alone, {kind}", [floor, "compress", kind, plain, f"{at}/out"])
            export = [treebox, "--store", f"{known}/store", "-q", "export", "it", f"oci:{at}/image:it"]
            measure(f"export, {kind}", [*export, "--squash", "--compression", kind])
        at = place()
        measure("export, unchanged", [treebox, "--store", f"{known}/store", "-q", "export", "it", f"oci:{at}/image:it"])
        measure("skopeo copy", ["skopeo", policy, "copy", "-q", "oci:images:layers", f"oci:{at}/copy:it"])
    for kind in ("gzip", "zstd"):
        row(f"compression alone, {kind}")
        row(f"export, {kind}", middle(f"compression alone, {kind}"))
    row("export, unchanged")
    row("skopeo copy", middle("export, unchanged"))
P
