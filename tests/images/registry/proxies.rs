//! Proxies, as the environment names them.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::fake::{self, Fake, Shelf};
use super::image::TestImage;
use super::server::{Server, Setup};
use crate::support::TestEnv;

/// A proxy on the loopback that brings everything to one port, whatever host is asked for.
struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = Arc::clone(&notes);
                thread::spawn(move || serve(stream, target, &notes));
            }
        });
        Self { port, seen }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, target: u16, notes: &Mutex<Vec<String>>) {
    let Some(request) = fake::read(&stream) else { return };
    notes.lock().unwrap().push(format!("{} {}", request.method, request.path));
    let mut upstream = TcpStream::connect(("127.0.0.1", target)).unwrap();
    if request.method == "CONNECT" {
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), upstream.try_clone().unwrap());
        thread::spawn(move || {
            drop((std::io::copy(&mut from, &mut to), to.shutdown(std::net::Shutdown::Write)))
        });
    } else {
        let rest = request.path.strip_prefix("http://").unwrap();
        let path = &rest[rest.find('/').unwrap()..];
        let head = format!("{} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request.method);
        upstream.write_all(head.as_bytes()).unwrap();
    }
    // Either end may go first.
    let _ = std::io::copy(&mut upstream, &mut stream);
}

#[test]
fn plain_http_goes_through_http_proxy_unless_no_proxy_names_the_host() {
    let fake = Fake::serving(Shelf::of(&TestImage::of_size(1000)));
    let proxy = Proxy::to(fake.port);
    let env = TestEnv::empty();
    let pull = |reference: &str, no_proxy: &str| {
        let mut command = env.command(&["pull", "--tls-verify=false", reference]);
        command
            .env("HTTP_PROXY", proxy.address())
            .env("http_proxy", proxy.address())
            .env("NO_PROXY", no_proxy);
        command.output().unwrap()
    };
    // A name that nobody can look up but the proxy.
    let far = "registry.test.invalid:5000/team/tool";
    let output = pull(far, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = proxy.seen();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert_eq!(seen[0], "GET http://registry.test.invalid:5000/v2/team/tool/manifests/latest");
    assert!(!pull(far, "registry.test.invalid").status.success());
    assert!(pull(&fake.tool(), "127.0.0.1").status.success());
    assert!(proxy.seen().is_empty());
}

#[test]
fn https_goes_through_a_tunnel_of_https_proxy_both_ways() {
    let server = Server::start(&Setup { tls: true, ..Setup::default() });
    let proxy = Proxy::to(server.port);
    let env = TestEnv::empty();
    TestImage::of_size(1000).write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let certificates = server.certificates();
    let through = |args: &[&str]| {
        let mut command = env.command(args);
        command.args(["--cert-dir".as_ref(), certificates.as_os_str()]);
        let output = command.env("HTTPS_PROXY", proxy.address()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        proxy.seen()
    };
    // The certificate is for 127.0.0.1 and localhost; the port is one where nobody listens.
    let far = "localhost:1/team/tool";
    for args in [vec!["push", "made", far], vec!["pull", "--name", "far", far]] {
        let seen = through(&args);
        assert!(!seen.is_empty() && seen.iter().all(|line| line == "CONNECT localhost:1"), "{seen:?}");
    }
}
