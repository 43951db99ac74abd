//! Every damage of `fixtures/damaged`: it is found by its name and no other, mended as far as that can be, and found no more.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use treebox::{DamageKind, Severity};

use super::archive;
use super::recipe::{self, Recipe};
use crate::support::TestEnv;

/// What a look finds that is a damage, and everything that it names.
fn found(lines: &[Value]) -> (BTreeSet<String>, BTreeSet<String>) {
    let name = |line: &Value| line["name"].as_str().map(str::to_owned);
    let is_bad = |line: &&Value| line["severity"] == "error" || line["severity"] == "warning";
    (lines.iter().filter(is_bad).filter_map(name).collect(), lines.iter().filter_map(name).collect())
}

fn check(recipe: &Recipe) -> Result<(), String> {
    let env = TestEnv::empty();
    archive::unpack_store(&env.store());
    recipe.apply(&env.store());
    // A planted kind is one name in several ways.
    let kind = DamageKind::ALL.iter().find(|kind| recipe.name.starts_with(kind.as_str()));
    let kind = kind.ok_or("no kind of damage has such a name")?;
    let fails = |what: &str, lines: &[Value]| {
        let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
        Err(format!("{}: {what}\n  {}", recipe.name, lines.join("\n  ")))
    };
    let ran = env.run(&["fsck", "--full", "--json"]);
    let lines: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (bad, all) = found(&lines);
    let mut expected: BTreeSet<String> = recipe.also.iter().cloned().collect();
    if kind.severity() > Severity::Info {
        expected.insert(kind.as_str().to_owned());
    }
    if bad != expected || !all.contains(kind.as_str()) {
        return fails("is not what is found", &lines);
    }
    if ran.code != i32::from(!bad.is_empty()) {
        return fails(&format!("ends with exit code {}", ran.code), &lines);
    }
    let mended = env.json_lines(&["fsck", "--repair"]);
    let again = env.json_lines(&["fsck", "--full"]);
    let (left, _) = found(&again);
    if recipe.lost {
        if left.is_empty() || !again.iter().any(|line| line["severity"] == "error") {
            return fails("is lost, and nothing says so", &again);
        }
    } else if !left.is_empty() {
        return fails("is not mended", &[&mended[..], &again].concat());
    }
    // Whatever it was, the store can be opened and read.
    let ran = env.run(&["branch"]);
    if ran.code != 0 {
        return fails(&format!("cannot be opened afterwards: {}", ran.stderr), &mended);
    }
    Ok(())
}

#[test]
fn every_damage_is_found_by_its_name_and_mended_as_far_as_that_can_be() {
    let recipes = recipe::all();
    assert!(!recipes.is_empty());
    // Most of the time the disk is waited for.
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(recipe) = recipes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failed.lock().unwrap().extend(check(recipe).err());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), recipes.len(), failed.join("\n"));
}

#[test]
fn every_kind_of_damage_has_a_fixture() {
    let recipes: Vec<String> = recipe::all().into_iter().map(|recipe| recipe.name).collect();
    let missing: Vec<_> = DamageKind::ALL
        .iter()
        .map(|kind| kind.as_str())
        .filter(|kind| !recipes.iter().any(|name| name == kind))
        // Nothing that can be put in a file makes them: a file that may not be read, a layer of other ids.
        .filter(|kind| !["blob-unreadable", "segment-unreadable", "layer-unreadable"].contains(kind))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
