//! Debian's `docker-registry`, started on a free port of the loopback with everything in a temporary directory.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How the registry is protected.
#[derive(Default)]
pub struct Setup {
    /// A user and a password.
    pub user: Option<(&'static str, &'static str)>,
    pub tls: bool,
}

/// A running registry; it ends when this is dropped.
pub struct Server {
    pub port: u16,
    dir: TempDir,
    child: Child,
    /// Lines of the log that were looked at.
    seen: usize,
}

/// A program that a test cannot do without: its absence is a failure that says what to install.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut found = places.map(|dir| dir.join(name)).filter(|path| path.is_file());
    found.next().unwrap_or_else(|| panic!("{name} is needed: install the Debian package {package}"))
}

/// Runs a program that has to succeed; gives its stdout.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    /// Lets anybody in, over plain HTTP.
    pub fn open() -> Self {
        Self::start(&Setup::default())
    }

    pub fn start(setup: &Setup) -> Self {
        for _ in 0..5 {
            if let Some(server) = Self::attempt(setup) {
                return server;
            }
        }
        panic!("docker-registry does not start");
    }

    /// `None` when somebody else took the port meanwhile.
    fn attempt(setup: &Setup) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            at("data")
        );
        if setup.tls {
            certificate(dir.path());
            config += &format!("  tls:\n    certificate: {}\n    key: {}\n", at("own.crt"), at("own.key"));
        }
        if let Some((user, password)) = setup.user {
            let made = run(Command::new(program("htpasswd", "apache2-utils")).args(["-Bbn", user, password]));
            std::fs::write(at("htpasswd"), made).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", at("htpasswd"));
        }
        std::fs::write(at("config.yml"), config).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = Command::new(program("docker-registry", "docker-registry"));
        command.args(["serve", &at("config.yml")]).env_remove("OTEL_TRACES_EXPORTER").stdin(Stdio::null());
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { port, dir, child, seen: 0 })
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The directory with the certificate.
    pub fn certificates(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// The requests since the last call: method and path.
    pub fn requests(&mut self) -> Vec<String> {
        // The log is written after the answer.
        std::thread::sleep(Duration::from_millis(200));
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        let lines: Vec<String> = log
            .lines()
            .filter_map(|line| {
                let (_, rest) = line.split_once("] \"")?;
                let (request, _) = rest.split_once(" HTTP/1.1\"")?;
                Some(request.split('?').next().unwrap_or(request).to_owned())
            })
            .collect();
        let new = lines[self.seen..].to_vec();
        self.seen = lines.len();
        new
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority of its own, and a certificate for 127.0.0.1 that it vouches for.
fn certificate(dir: &Path) {
    std::fs::create_dir(dir.join("certs")).unwrap();
    let openssl = |args: &str| {
        let mut command = Command::new(program("openssl", "openssl"));
        run(command.current_dir(dir).args(args.split(' ')));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out certs/ca.crt"));
    openssl(&format!("req -new {key} -subj /CN=registry -keyout own.key -out own.csr"));
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in own.csr -CA certs/ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out own.crt",
    );
}
