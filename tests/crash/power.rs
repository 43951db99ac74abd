//! Power cuts: commands in a row are recorded, and every store that a cut could leave is looked at.
//!
//! With `Durability::Commit` every ref is where the last finished command left it, or where the one under way was bringing it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::check::{self, Refs};
use super::disk::{About, Disk, Fate};
use super::trace::{self, Fault};
use super::{caught, scenarios, stride};
use treebox::Durability;

use crate::support::{TestEnv, names};

/// What is recorded: commands on a store.
pub(super) struct Sequence {
    pub(super) name: &'static str,
    pub(super) prepare: fn(&TestEnv),
    pub(super) commands: &'static [&'static [&'static str]],
    pub(super) durability: Durability,
}

/// So many images of a sequence are looked at unless `TREEBOX_CRASH=all` asks for every one.
const MAX_IMAGES: usize = 200;

/// Numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

fn command(env: &TestEnv, sequence: &Sequence, args: &[&str]) -> Command {
    let home = env.path("").display().to_string();
    let durability = if sequence.durability == Durability::Batch { "batch" } else { "commit" };
    let options = ["--identity", "recorded", "--durability", durability].map(str::to_owned);
    let args: Vec<String> =
        options.into_iter().chain(args.iter().map(|arg| arg.replace("[HOME]/", &home))).collect();
    env.command(&args)
}

/// Every fate that is tried for what is open at a cut.
fn fates(disk: &Disk, cut: usize, dice: &mut Dice) -> Vec<(&'static str, HashMap<usize, Fate>)> {
    let open = disk.unsynced(cut);
    let all = |fate: &dyn Fn(About) -> Fate| open.iter().map(|(at, about)| (*at, fate(*about))).collect();
    let mut tried = vec![("only what was synced", all(&|_| Fate::Lost))];
    if open.is_empty() {
        return tried;
    }
    tried.push((
        "names without bytes",
        all(&|about| match about {
            About::Names => Fate::Kept,
            About::Bytes => Fate::Lost,
        }),
    ));
    tried.push((
        "names with room for bytes",
        all(&|about| match about {
            About::Names => Fate::Kept,
            About::Bytes => Fate::Zeros,
        }),
    ));
    // Where the most is open each is missing once, elsewhere one of them.
    if disk.is_sync(cut) || cut == disk.len() {
        tried.extend(open.iter().map(|(at, _)| ("all but one", HashMap::from([(*at, Fate::Lost)]))));
    } else {
        tried.push(("all but one", HashMap::from([(open[dice.roll(open.len())].0, Fate::Lost)])));
    }
    for _ in 0..2 {
        let some = open.iter().map(|(at, about)| {
            let fate = match (dice.roll(4), about) {
                (0 | 1, _) => Fate::Kept,
                (2, About::Bytes) => Fate::Torn(dice.roll(9)),
                (3, About::Bytes) if dice.roll(4) == 0 => Fate::Zeros,
                _ => Fate::Lost,
            };
            (*at, fate)
        });
        tried.push(("some", some.collect()));
    }
    tried
}

/// Records the commands and looks at every image.
pub(super) fn cut_everywhere(sequence: &Sequence) {
    let began = Instant::now();
    let env = TestEnv::in_memory();
    (sequence.prepare)(&env);
    let store = env.store();
    let mut disk = Disk::of(&store);
    // Where refs are after each command, and how many steps there were then.
    let mut moments = vec![(0, check::refs(&store))];
    for args in sequence.commands {
        let mut seen = |call: &_, pid, result, existed| disk.record(call, pid, result, existed);
        let ran = trace::run(&mut command(&env, sequence, args), &store, Fault::None, Some(&mut seen));
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        moments.push((disk.len(), refs_untouched(&env)));
    }
    let (mut dice, mut seen, mut all) = (Dice(0x7472_6565), HashSet::new(), Vec::new());
    for cut in 0..=disk.len() {
        for (kind, fates) in fates(&disk, cut, &mut dice) {
            if seen.insert(disk.image(cut, &fates).hash()) {
                all.push((cut, kind, fates));
            }
        }
    }
    // Evenly spread over all.
    let step =
        if super::everything() { 1 } else { all.len().div_ceil(MAX_IMAGES / stride(disk.len())).max(1) };
    let (mut wrong, mut images) = (Vec::new(), 0);
    for (cut, kind, fates) in all.iter().step_by(step) {
        images += 1;
        treebox::disk::remove_tree(&store).unwrap();
        let image = disk.image(*cut, fates);
        image.write(&store);
        another_boot(&store);
        if let Some(what) = caught(|| look(&env, sequence, &moments, *cut)) {
            wrong.push(format!("cut behind step {cut} of {}, {kind}: {what}", disk.len()));
            if let Some(keep) = std::env::var_os("TREEBOX_CRASH_KEEP") {
                image.write(&std::path::PathBuf::from(keep).join(format!("{cut}-{images}")));
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let (steps, of) = (disk.len(), all.len());
    super::said(&format!(
        "crash images, {}: {steps} steps, {images} of {of} images in {seconds:.1} s",
        sequence.name
    ));
    assert!(wrong.is_empty(), "{}: {} images:\n{}", sequence.name, wrong.len(), wrong.join("\n"));
}

/// The machine has been started anew.
fn another_boot(store: &Path) {
    let path = store.join("history.boot");
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, text.replace(now.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
}

/// The refs, looked at in a copy: looking may change what is recorded next.
fn refs_untouched(env: &TestEnv) -> Refs {
    let copy = env.path("copy");
    treebox::disk::remove_tree(&copy).unwrap();
    assert!(Command::new("cp").arg("-a").arg(env.store()).arg(&copy).status().unwrap().success());
    check::refs(&copy)
}

fn look(env: &TestEnv, sequence: &Sequence, moments: &[(usize, Refs)], cut: usize) {
    let store = env.store();
    let done = moments.iter().rposition(|(steps, _)| *steps <= cut).unwrap();
    let under_way = (done + 1).min(moments.len() - 1);
    let found = check::whole_after_power_cut(&store, sequence.durability);
    let (old, new) = (&moments[done].1, &moments[under_way].1);
    let any = sequence.durability == Durability::Batch && is_between(&found, &moments[..=under_way]);
    assert!(any || found == *old || found == *new, "{}", differences(&found, old, new));
    let again = if found == *old { sequence.commands.get(done) } else { None };
    // HEAD may name a branch that is not there yet.
    let at_commit =
        found.get("HEAD").is_some_and(|head| found.contains_key(head.trim_start_matches("ref: ")));
    let other: &[&str] = if at_commit { &["tag", "afterwards"] } else { &["branch"] };
    let args = again.copied().unwrap_or(other);
    let ran = trace::run(&mut command(env, sequence, args), &store, Fault::None, None);
    assert_eq!(ran.code, 0, "done afterwards, {args:?}: {}", ran.stderr);
    let then = check::whole_after_power_cut(&store, sequence.durability);
    if again.is_some() {
        assert_eq!(then, *new, "done again");
    }
    assert_eq!(names(&store.join("tmp")), Vec::<String>::new(), "left in tmp/");
}

/// With `Batch` each ref by itself may be where it was after any of the commands.
fn is_between(found: &Refs, moments: &[(usize, Refs)]) -> bool {
    let names: HashSet<&String> =
        found.keys().chain(moments.iter().flat_map(|(_, refs)| refs.keys())).collect();
    names.iter().all(|name| moments.iter().any(|(_, refs)| refs.get(*name) == found.get(*name)))
}

fn differences(found: &Refs, old: &Refs, new: &Refs) -> String {
    let mut all: BTreeMap<&String, [Option<&String>; 3]> = BTreeMap::new();
    for (at, refs) in [found, old, new].into_iter().enumerate() {
        for (name, value) in refs {
            all.entry(name).or_default()[at] = Some(value);
        }
    }
    all.retain(|_, values| values.iter().any(|value| *value != values[0]));
    format!("refs are neither old nor new [found, old, new]: {all:?}")
}

/// The history's verbs in a row.
pub(super) const VERBS: Sequence = Sequence {
    name: "run, branch, switch, merge, tag, undo",
    prepare: scenarios::steps,
    commands: CHANGES,
    durability: Durability::Commit,
};

/// The same, and nothing waits for the disk.
pub(super) const BATCH: Sequence =
    Sequence { name: "the same without syncs", durability: Durability::Batch, ..VERBS };

const CHANGES: &[&[&str]] = &[
    scenarios::STEP,
    &["branch", "new/one", "left"],
    &["switch", "-c", "next"],
    &["merge", "right"],
    &["tag", "v1"],
    &["note", "v1", "a word"],
    &["branch", "-m", "new/one", "newer"],
    &["branch", "-d", "left"],
    &["undo"],
    &["reset", "base"],
];

/// From nothing to an import and a change of it.
pub(super) const BEGINNING: Sequence = Sequence {
    name: "a new store, import, cp",
    prepare: scenarios::only_files,
    commands: &[
        &["branch"],
        &["import", "dir:[HOME]/many", "--name", "many"],
        &["switch", "-c", "main", "many"],
        &["cp", "[HOME]/few", "main:/few"],
    ],
    durability: Durability::Commit,
};

/// Everything becomes packs.
pub(super) const PACKING: Sequence = Sequence {
    name: "packing of refs and objects",
    prepare: scenarios::grown,
    commands: &[&["tag", "v1"], &["tag", "-d", "t1"], &["branch", "-d", "left"]],
    durability: Durability::Commit,
};
