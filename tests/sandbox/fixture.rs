//! A root file system of busybox, a worker, and ways to run things and see what they say.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use treebox::sandbox::{Ending, Identity, IdentityChoice, Plan, Rootfs, Upper};
use treebox::worker::{Exit, Running, Session, SessionError, Worker, WorkerOptions};

pub(crate) struct Case {
    pub(crate) worker: Worker,
    pub(crate) session: Session,
    pub(crate) dir: PathBuf,
    // Dropped last, after the session has removed what belongs to other ids.
    _scratch: tempfile::TempDir,
}

pub(crate) struct Said {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn program() -> PathBuf {
    std::env::var_os("TREEBOX_TEST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_treebox").into(), PathBuf::from)
}

pub(crate) fn start_worker(identity: IdentityChoice) -> Worker {
    Worker::start(&WorkerOptions { program: program(), identity })
        .unwrap_or_else(|err| panic!("these tests need user namespaces: {err}"))
}

fn wanted_identity() -> IdentityChoice {
    match std::env::var("TREEBOX_TEST_IDENTITY").as_deref() {
        Ok("single") => IdentityChoice::Single,
        Ok("subordinate") => IdentityChoice::Subordinate,
        _ => IdentityChoice::Auto,
    }
}

impl Case {
    pub(crate) fn new() -> Self {
        Self::with(wanted_identity())
    }

    pub(crate) fn with(identity: IdentityChoice) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().to_owned();
        build_root(&dir.join("lower"));
        for stub in ["stub/proc", "stub/dev", "stub/sys", "upper", "work"] {
            fs::create_dir_all(dir.join(stub)).unwrap();
        }
        let worker = start_worker(identity);
        let session = worker.session().unwrap();
        Self { worker, session, dir, _scratch: scratch }
    }

    pub(crate) fn many_ids(&self) -> bool {
        !matches!(self.worker.identity(), Identity::Single { .. })
    }

    pub(crate) fn lowers(&self) -> Vec<PathBuf> {
        vec![self.dir.join("lower"), self.dir.join("stub")]
    }

    /// A plan on the overlay of this case, with upper and work directories of that name.
    pub(crate) fn plan_in(&self, upper: &str, argv: &[&str]) -> Plan {
        let (upper, work) = (self.dir.join(upper), self.dir.join(upper.replace("upper", "work")));
        for dir in [&upper, &work] {
            fs::create_dir_all(dir).unwrap();
        }
        let upper = Some(Upper { upper, work });
        let rootfs = Rootfs::Overlay { lowers: self.lowers(), data_lower: None, upper };
        let mut plan = Plan::new(rootfs, argv.iter().map(|word| word.as_bytes().to_vec()).collect());
        plan.env = vec![b"PATH=/bin".to_vec()];
        plan
    }

    pub(crate) fn plan(&self, argv: &[&str]) -> Plan {
        self.plan_in("upper", argv)
    }

    /// The overlay leaves a mark of its volatile mount, so each run of a test gets a fresh work directory.
    fn fresh_work(&self) {
        self.session.remove(&self.dir.join("work")).unwrap();
        fs::create_dir(self.dir.join("work")).unwrap();
    }

    pub(crate) fn try_run(&self, plan: Plan) -> Result<Said, SessionError> {
        self.fresh_work();
        let (running, out, err) = start(&self.session, plan)?;
        let err = std::thread::spawn(move || read(err));
        let out = read(out);
        let exit = running.wait()?;
        Ok(Said { exit, out, err: err.join().unwrap() })
    }

    pub(crate) fn run(&self, plan: Plan) -> Said {
        self.try_run(plan).unwrap_or_else(|err| panic!("{err}"))
    }

    /// What a shell script prints; it must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let said = self.run(self.plan(&["sh", "-c", script]));
        assert_eq!(said.exit.ending, Ending::Code(0), "{script}: {}", said.err);
        said.out
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for part in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = self.session.remove(&part.path());
        }
    }
}

fn build_root(root: &Path) {
    for dir in ["bin", "etc", "tmp", "usr", "root"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("these tests need the package busybox-static");
    let applets = "cat chmod chown date env false grep hostname id ifconfig ip kill ls mkdir mknod mount nc ps pwd readlink rm sh \
                   sleep stat touch true umask wc wget printf head sed awk setsid su test";
    for applet in applets.split_ascii_whitespace() {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/old"), "old\n").unwrap();
}

pub(crate) fn start(session: &Session, plan: Plan) -> Result<(Running, OwnedFd, OwnedFd), SessionError> {
    let (out, out_end) = std::io::pipe().unwrap();
    let (err, err_end) = std::io::pipe().unwrap();
    let null: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    let running = session.run(plan, [null, out_end.into(), err_end.into()])?;
    Ok((running, out.into(), err.into()))
}

pub(crate) fn read(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}
