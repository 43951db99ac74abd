//! What a run sees of the network, and which resolver it asks for names.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::error::{Error, Result};
use crate::disk::Scratch;
use crate::object::Network;
use crate::sandbox::{self, Uplink};

/// Where a program looks for its resolver, here as inside.
pub(super) const RESOLVER_FILE: &str = "/etc/resolv.conf";

/// The network of a run, and the host file that is to be seen as its resolver file; what is there is the state's own otherwise.
pub(super) struct RunNetwork {
    pub(super) plan: sandbox::Network,
    pub(super) resolver_file: Option<PathBuf>,
}

impl RunNetwork {
    /// Finds what the network needs and writes the resolver file into the scratch directory of the run.
    pub(super) fn prepare(network: Network, scratch: &Scratch) -> Result<Self> {
        let host_file = || std::fs::read_to_string(RESOLVER_FILE).unwrap_or_default();
        let (plan, text) = match network {
            Network::None => return Ok(Self { plan: sandbox::Network::None, resolver_file: None }),
            Network::Host => (sandbox::Network::Host, host_file()),
            Network::Private => {
                let uplink = find_uplink()?;
                let text = private_resolvers(&host_file(), uplink.resolver());
                (sandbox::Network::Private(uplink), text)
            }
        };
        let path = scratch.path().join("resolv.conf");
        let written = std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)));
        written.map_err(|error| Error::disk("write", &path, error))?;
        Ok(Self { plan, resolver_file: Some(path) })
    }
}

fn find_uplink() -> Result<Uplink> {
    Uplink::find(&std::env::var_os("PATH").unwrap_or_default()).ok_or_else(|| {
        Error::Unsupported(
            "a private network needs the program pasta or slirp4netns, and neither is there: install the package passt, or \
             use the network `host`"
                .into(),
        )
    })
}

/// The resolver file for a private network.
///
/// The host's resolvers are reached as they are, unless they listen on the host's loopback, which is out of reach: then `forwarder`,
/// an address of the helper, stands for them all.
fn private_resolvers(host: &str, forwarder: &str) -> String {
    let mut text = String::new();
    let mut forward = true;
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) if !is_local(address) => {
                forward = false;
                text.push_str(&format!("nameserver {address}\n"));
            }
            (Some("search" | "options" | "domain"), Some(_)) => {
                text.push_str(line.trim());
                text.push('\n');
            }
            _ => {}
        }
    }
    if forward { format!("nameserver {forwarder}\n{text}") } else { text }
}

/// Whether an address means this very machine, or is none.
fn is_local(address: &str) -> bool {
    // A link-local one carries the name of an interface that is another one inside.
    match address.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_within_reach_are_kept_and_those_on_the_loopback_are_stood_in_for() {
        let near = "# stub\nnameserver 127.0.0.53\noptions edns0\nsearch a.example b.example\n";
        assert_eq!(
            private_resolvers(near, "169.254.1.1"),
            "nameserver 169.254.1.1\noptions edns0\nsearch a.example b.example\n"
        );
        let far = "nameserver 127.0.0.1\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n";
        assert_eq!(private_resolvers(far, "x"), "nameserver 192.0.2.53\n");
        assert_eq!(private_resolvers("", "x"), "nameserver x\n");
        assert_eq!(private_resolvers("nameserver ::1\nnameserver\n", "x"), "nameserver x\n");
    }
}
