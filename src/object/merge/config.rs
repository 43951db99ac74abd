//! Merging how commands run: the config of a state.

use std::collections::BTreeMap;

use super::{Settled, Side, three};
use crate::object::{Config, Platform};

/// A value that no config has.
const NEITHER: &str = "\0";

/// One setting that two sides changed in different ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigConflict {
    /// Which, such as `env PATH`, `label version` or `workdir`.
    pub setting: String,
    /// What it was; `None` when it was not set, or there is no base.
    pub base: Option<String>,
    /// What our side has.
    pub ours: Option<String>,
    /// What the other side has.
    pub theirs: Option<String>,
}

/// Joins two configs that came from one: environment and labels by key, ports and volumes by entry, the rest by setting.
///
/// `favour` settles what both changed; without it such a setting is listed and has our value in the result. Variables keep our order, new
/// ones of the other side follow in its own.
pub fn merge_configs(
    base: Option<&Config>,
    ours: &Config,
    theirs: &Config,
    favour: Option<Settled>,
) -> (Config, Vec<ConfigConflict>) {
    let mut merging = Merging { favour, conflicts: Vec::new() };
    let mut merged = ours.clone();
    macro_rules! setting {
        ($field:ident, $show:expr, $neither:expr) => {
            let base = base.map(|base| &base.$field);
            let sides = (base, &ours.$field, &theirs.$field);
            merged.$field = merging.one(stringify!($field).replace('_', " "), sides, $show, $neither);
        };
    }
    let nobody = || NEITHER.to_owned();
    setting!(platform, &|value| value.to_string(), || Platform { os: nobody(), ..Platform::host() });
    setting!(workdir, &Clone::clone, nobody);
    setting!(user, &Clone::clone, nobody);
    setting!(entrypoint, &|value| value.join(" "), || vec![nobody()]);
    setting!(cmd, &|value| value.join(" "), || vec![nobody()]);
    setting!(stop_signal, &Clone::clone, nobody);
    let env =
        merging.keyed("env", base.map(|base| by_key(&base.env)), &by_key(&ours.env), &by_key(&theirs.env));
    merged.env = in_order(&ours.env, &theirs.env, &env);
    merged.labels =
        merging.keyed("label", base.map(|base| base.labels.clone()), &ours.labels, &theirs.labels);
    merged.exposed_ports =
        entries(base.map(|base| &base.exposed_ports), &ours.exposed_ports, &theirs.exposed_ports);
    merged.volumes = entries(base.map(|base| &base.volumes), &ours.volumes, &theirs.volumes);
    (merged, merging.conflicts)
}

struct Merging {
    favour: Option<Settled>,
    conflicts: Vec<ConfigConflict>,
}

impl Merging {
    fn one<T: Clone + PartialEq>(
        &mut self,
        setting: String,
        (base, ours, theirs): (Option<&T>, &T, &T),
        show: &dyn Fn(&T) -> String,
        neither: impl FnOnce() -> T,
    ) -> T {
        if let Some(value) = three(base, ours, theirs) {
            return value.clone();
        }
        match self.favour {
            Some(Settled::By(Side::Ours)) => ours.clone(),
            Some(Settled::By(Side::Theirs)) => theirs.clone(),
            Some(Settled::Neither) => neither(),
            None => {
                let [base, left, right] = [base, Some(ours), Some(theirs)].map(|side| side.map(show));
                self.conflicts.push(ConfigConflict { setting, base, ours: left, theirs: right });
                ours.clone()
            }
        }
    }

    fn keyed(
        &mut self,
        what: &str,
        base: Option<BTreeMap<String, String>>,
        ours: &BTreeMap<String, String>,
        theirs: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let base = base.unwrap_or_default();
        let neither = NEITHER.to_owned();
        let mut merged = BTreeMap::new();
        let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for key in keys {
            let [before, left, right] = [base.get(key), ours.get(key), theirs.get(key)];
            let value = match three(Some(&before), &left, &right) {
                Some(value) => *value,
                None => match self.favour {
                    Some(Settled::By(Side::Ours)) => left,
                    Some(Settled::By(Side::Theirs)) => right,
                    Some(Settled::Neither) => Some(&neither),
                    None => {
                        let [base, ours, theirs] = [before, left, right].map(|side| side.cloned());
                        let setting = format!("{what} {key}");
                        self.conflicts.push(ConfigConflict { setting, base, ours, theirs });
                        left
                    }
                },
            };
            if let Some(value) = value {
                merged.insert(key.clone(), value.clone());
            }
        }
        merged
    }
}

fn key_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn by_key(env: &[String]) -> BTreeMap<String, String> {
    env.iter()
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn in_order(ours: &[String], theirs: &[String], merged: &BTreeMap<String, String>) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    for entry in ours.iter().chain(theirs) {
        let key = key_of(entry);
        if let Some(value) = merged.get(key)
            && !env.iter().any(|have| key_of(have) == key)
        {
            env.push(format!("{key}={value}"));
        }
    }
    env
}

/// Entries that both have, and those that one side added; what one side took away is gone.
fn entries(base: Option<&Vec<String>>, ours: &[String], theirs: &[String]) -> Vec<String> {
    let had = |entry: &String| base.is_some_and(|base| base.contains(entry));
    let mut merged: Vec<String> = ours
        .iter()
        .filter(|entry| theirs.contains(entry) || !had(entry))
        .chain(theirs.iter().filter(|entry| !ours.contains(entry) && !had(entry)))
        .cloned()
        .collect();
    merged.sort();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(env: &[&str], workdir: &str) -> Config {
        let env = env.iter().map(|entry| (*entry).to_owned()).collect();
        Config { env, workdir: workdir.to_owned(), ..Config::default() }
    }

    #[test]
    fn settings_of_both_sides_join_by_key() {
        let base = config(&["A=1", "B=2"], "/");
        let (merged, conflicts) = merge_configs(
            Some(&base),
            &config(&["B=2", "A=1", "C=3"], "/src"),
            &config(&["A=9", "D=4"], "/"),
            None,
        );
        assert_eq!((merged, conflicts), (config(&["A=9", "C=3", "D=4"], "/src"), vec![]));
    }

    #[test]
    fn a_setting_that_both_changed_is_listed_and_can_be_settled() {
        let (base, ours, theirs) = (config(&["A=1"], ""), config(&["A=2"], "/a"), config(&[], "/b"));
        let (_, conflicts) = merge_configs(Some(&base), &ours, &theirs, None);
        let settings: Vec<_> = conflicts.iter().map(|conflict| conflict.setting.as_str()).collect();
        assert_eq!(settings, ["workdir", "env A"]);
        assert_eq!((conflicts[1].ours.as_deref(), conflicts[1].theirs.as_deref()), (Some("2"), None));
        assert_eq!(
            merge_configs(Some(&base), &ours, &theirs, Some(Settled::By(Side::Ours))),
            (ours.clone(), vec![])
        );
        assert_eq!(
            merge_configs(Some(&base), &ours, &theirs, Some(Settled::By(Side::Theirs))),
            (theirs, vec![])
        );
    }

    #[test]
    fn ports_are_added_and_taken_away_one_by_one() {
        let ports = |ports: &[&str]| -> Vec<String> { ports.iter().map(|port| (*port).to_owned()).collect() };
        let merged = entries(
            Some(&ports(&["1/tcp", "2/tcp"])),
            &ports(&["2/tcp", "3/tcp"]),
            &ports(&["1/tcp", "2/tcp", "0/tcp"]),
        );
        assert_eq!(merged, ports(&["0/tcp", "2/tcp", "3/tcp"]));
    }
}
