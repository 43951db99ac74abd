//! `treebox doctor`: what this machine allows, the cause and the fix for what it does not.

use serde::Serialize;
use treebox::{Finding, Verdict};

use super::exit::{Exit, Failure};
use super::{Context, output};

/// Say what this machine allows, and the fix for what it does not; exit 1 if commands cannot run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print an AppArmor profile that lets this program create user namespaces, for /etc/apparmor.d/treebox
    #[arg(long)]
    apparmor_profile: bool,
}

/// The profile as it is shipped.
const PROFILE: &str = include_str!("../../contrib/apparmor/treebox");

/// The programs that it is for.
const PROFILED: &str = "/{usr/,usr/local/}bin/treebox";

#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    outcome: &'static str,
    detail: &'a str,
    cause: Option<&'a str>,
    fix: Option<&'a str>,
}

pub(super) fn perform(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    if args.apparmor_profile {
        let program = std::env::current_exe()
            .map_err(|error| Failure::refused(format!("cannot find this program's own path: {error}")))?;
        let program = program
            .to_str()
            .ok_or_else(|| Failure::refused("this program's path is not UTF-8: install it elsewhere"))?;
        write!(context.out, "{}", profile_for(program))?;
        return Ok(Exit::DONE);
    }
    let findings = context.engine()?.doctor()?;
    let out = &mut context.out;
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    for Finding { name, outcome, detail, cause, fix } in &findings {
        let (word, style) = match outcome {
            Verdict::Ok => ("ok", output::ADDED),
            Verdict::Degraded => ("degraded", output::MODIFIED),
            Verdict::Failed => ("failed", output::DELETED),
        };
        if out.json() {
            let (cause, fix) = (cause.as_deref(), fix.as_deref());
            out.record(&Record { name, outcome: word, detail, cause, fix })?;
            continue;
        }
        writeln!(out, "{}  {name:width$}  {detail}", out.paint(style, format!("{word:8}")))?;
        for (label, text) in [("cause", cause), ("fix", fix)] {
            if let Some(text) = text {
                writeln!(out, "          {label}: {text}")?;
            }
        }
    }
    let works = findings.iter().all(|finding| finding.outcome != Verdict::Failed);
    Ok(if works { Exit::DONE } else { Exit::NO })
}

/// The profile for a program at this path.
fn profile_for(program: &str) -> String {
    let mut quoted = String::from("\"");
    for c in program.chars() {
        // What has a meaning in AppArmor's patterns (apparmor.d(5)) loses it by a backslash.
        if "\\\"*?[]{}^".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    PROFILE.replace(PROFILED, &quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_names_the_program_whatever_its_path() {
        let profile = profile_for("/opt/a b/[x]*/treebox");
        assert!(
            profile.contains(
                "\nprofile treebox \"/opt/a b/\\[x\\]\\*/treebox\" flags=(unconfined) {\n  userns,\n"
            )
        );
        assert_eq!(profile.matches(PROFILED).count(), 0);
        assert_eq!(PROFILE.matches(PROFILED).count(), 1);
    }
}
