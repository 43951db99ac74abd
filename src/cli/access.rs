//! What `pull` and `push` have in common: how a registry is reached, and with whose name.

use std::io::{self, BufRead, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use treebox::{Credentials, RegistryOptions};

use super::exit::Failure;
use super::output::Output;
use super::progress::Progress;

/// How a registry is reached.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// Who to be; a password left out is asked for, or read from standard input
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<String>,
    /// A file of credentials [default: those of podman and docker]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// false lets plain HTTP and certificates that nobody vouches for do
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// Certificates (*.crt) to trust besides the system's
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// How many layers to transfer at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

impl Access {
    /// The options of the library, and the bars, which go when they are dropped.
    pub(super) fn options(&self, out: &Output) -> Result<(RegistryOptions, Progress), Failure> {
        let progress = Progress::new(out);
        let options = RegistryOptions {
            credentials: self.creds.as_deref().map(credentials).transpose()?,
            auth_files: self.authfile.clone().map(|path| vec![path]),
            tls_verify: self.tls_verify,
            cert_dirs: self.cert_dir.clone().into_iter().collect(),
            jobs: usize::from(self.jobs),
            listener: progress.listener(),
            ..RegistryOptions::default()
        };
        Ok((options, progress))
    }
}

fn credentials(typed: &str) -> Result<Credentials, Failure> {
    match typed.split_once(':') {
        Some((user, password)) => Ok(Credentials::password(user, password)),
        None => Ok(Credentials::password(typed, password(typed)?)),
    }
}

/// One line of standard input, which a terminal does not show.
fn password(user: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::refused(format!("cannot read the password of {user}: {error}"));
    let stdin = io::stdin();
    let shown = if stdin.is_terminal() {
        let _ = write!(io::stderr(), "Password of {user}: ");
        let shown = tcgetattr(stdin.as_fd()).map_err(|error| failed(error.into()))?;
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &hidden).map_err(|error| failed(error.into()))?;
        Some(shown)
    } else {
        None
    };
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = shown {
        // The line is read: a terminal that cannot be put back now could not before either.
        let _ = tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &shown);
        let _ = writeln!(io::stderr());
    }
    read.map_err(failed)?;
    match line.trim_end_matches(['\n', '\r']) {
        "" => Err(Failure::refused(format!(
            "there is no password for {user}: type one, pipe one, or give --creds {user}:PASSWORD"
        ))),
        password => Ok(password.to_owned()),
    }
}
