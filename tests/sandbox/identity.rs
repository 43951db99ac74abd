//! Which ids exist inside.

use super::fixture::Case;
use treebox::sandbox::{Ending, Identity, IdentityChoice, LaunchError, PlanError};
use treebox::worker::SessionError;

#[test]
fn the_caller_is_root_inside() {
    let case = Case::new();
    assert_eq!(case.shell("id -u; id -g; stat -c %u:%g /etc/passwd"), "0\n0\n0:0\n");
}

#[test]
fn users_and_groups_of_the_plan_are_taken() {
    let case = Case::new();
    if !case.many_ids() {
        return only_one_id(&case);
    }
    let mut plan = case.plan(&[
        "sh",
        "-c",
        "id -u; id -g; id -G; echo x > /dev/stdout; grep CapEff /proc/self/status; touch /tmp/mine",
    ]);
    (plan.uid, plan.gid, plan.groups) = (1000, 1001, vec![1001, 27]);
    let said = case.run(plan);
    assert_eq!(said.out, "1000\n1001\n1001 27\nx\nCapEff:\t0000000000000000\n", "{}", said.err);
    assert_eq!(case.shell("id -G; stat -c %u:%g /tmp/mine"), "0\n1000:1001\n");
    assert_eq!(case.shell("chown 33:33 /etc/old && stat -c %u:%g /etc/old"), "33:33\n");
}

#[test]
fn one_id_is_one_id() {
    only_one_id(&Case::with(IdentityChoice::Single));
}

fn only_one_id(case: &Case) {
    assert!(matches!(case.worker.identity(), Identity::Single { .. }));
    let mut plan = case.plan(&["id"]);
    plan.uid = 1000;
    match case.try_run(plan) {
        Err(SessionError::Launch(LaunchError::Plan(PlanError::UnmappedId { id: 1000, fix, .. }))) => {
            assert!(fix.contains("/etc/subuid"));
        }
        other => panic!("{:?}", other.map(|said| said.exit)),
    }
    let said = case.run(case.plan(&["chown", "33:33", "/etc/old"]));
    assert_ne!(said.exit.ending, Ending::Code(0));
    assert_eq!(case.shell("id -u; touch /x; stat -c %u /x"), "0\n0\n");
}
