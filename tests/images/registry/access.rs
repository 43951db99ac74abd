//! Credentials, tokens, certificates: what is asked for, what is sent, and to whom.

use std::os::unix::fs::PermissionsExt;

use super::fake::{Fake, Reply, Shelf};
use super::image::TestImage;
use super::server::{Server, Setup};
use super::{PLAIN, refused};
use crate::support::TestEnv;

const USER: &str = "someone";
const PASSWORD: &str = "hunter2 is:secret";
/// `someone:hunter2 is:secret`.
const BASIC: &str = "c29tZW9uZTpodW50ZXIyIGlzOnNlY3JldA==";

/// A registry that wants a token of its own token service.
fn with_tokens(shelf: Shelf) -> Fake {
    Fake::start(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            return match request.header("authorization") {
                Some(given) if given == format!("Basic {BASIC}") => Reply::new(200, r#"{"token":"good"}"#),
                Some(_) => Reply::new(401, r#"{"errors":[{"message":"incorrect"}]}"#),
                None if request.method == "POST" => Reply::new(200, r#"{"access_token":"good"}"#),
                None => Reply::new(200, r#"{"access_token":"weak"}"#),
            };
        }
        match request.header("authorization") {
            Some("Bearer good") => shelf.answer(request),
            Some("Bearer weak") => Reply::new(403, ""),
            _ => Reply::new(401, "").header(
                "WWW-Authenticate",
                format!(r#"Bearer realm="http://{host}/token",service="the registry",scope="whatever""#),
            ),
        }
    })
}

#[test]
fn a_token_is_got_with_the_password_and_the_registry_sees_the_token_alone() {
    let fake = with_tokens(Shelf::of(&TestImage::of_size(1000)));
    let env = TestEnv::empty();
    let creds = format!("{USER}:{PASSWORD}");
    env.ok(&["pull", PLAIN, "--creds", &creds, &fake.tool()]);
    let asked = fake.asked();
    let token = &asked[1];
    assert_eq!(token.path, "/token?scope=repository%3Ateam%2Ftool%3Apull&service=the+registry");
    for request in asked.iter().filter(|request| request.path.starts_with("/v2/")) {
        let sent = request.header("authorization");
        assert!(sent.is_none() || sent == Some("Bearer good"), "{request:?}");
    }
    assert_eq!(asked.len(), 6, "the manifest in vain, a token, the manifest, the config, two layers");

    let wrong = refused(
        &env,
        &["pull", PLAIN, "--creds", "x:hunter3", &fake.tool()],
        &["refuses a token", "incorrect"],
    );
    assert!(!wrong.contains("hunter3"), "{wrong}");
    refused(&env, &["pull", PLAIN, &fake.tool()], &["refuses manifest", "log in", "--creds"]);
}

#[test]
fn an_identity_token_is_exchanged() {
    let fake = with_tokens(Shelf::of(&TestImage::of_size(1000)));
    let env = TestEnv::empty();
    let auth =
        env.file("auth.json", format!(r#"{{"auths":{{"{}":{{"identitytoken":"long one"}}}}}}"#, fake.host()));
    env.ok(&["pull", PLAIN, "--authfile", auth.to_str().unwrap(), &fake.tool()]);
    let asked = fake.asked();
    let token = asked.iter().find(|request| request.path.starts_with("/token")).unwrap();
    let body = String::from_utf8(token.body.clone()).unwrap();
    assert_eq!(token.method, "POST");
    assert!(body.contains("grant_type=refresh_token") && body.contains("refresh_token=long+one"), "{body}");
}

#[test]
fn another_host_sees_no_credentials() {
    let image = TestImage::of_size(1000);
    let elsewhere = Fake::serving(Shelf::of(&image));
    let (shelf, target) = (Shelf::of(&image), elsewhere.port);
    let fake = Fake::start(move |request| match request.header("authorization") {
        None => Reply::new(401, "").header("WWW-Authenticate", r#"Basic realm="x""#),
        Some(_) if request.path.contains("/blobs/") => {
            Reply::new(307, "").header("Location", format!("http://localhost:{target}{}", request.path))
        }
        Some(_) => shelf.answer(request),
    });
    let env = TestEnv::empty();
    env.ok(&["pull", PLAIN, "--creds", &format!("{USER}:{PASSWORD}"), &fake.tool()]);
    let moved = elsewhere.asked();
    assert_eq!(moved.len(), 3);
    assert!(moved.iter().all(|request| request.header("authorization").is_none()), "{moved:?}");
    // The registry itself gets them anew for every part.
    assert!(fake.asked().iter().skip(1).all(|request| request.header("authorization").is_some()));
}

#[test]
fn a_mirror_is_asked_first_and_sees_no_credentials_that_are_not_its_own() {
    let image = TestImage::of_size(1000);
    let (full, empty) = (Fake::serving(Shelf::of(&image)), Fake::serving(Shelf::default()));
    let env = TestEnv::empty();
    let conf = |origin: &str, mirror: &str| {
        let text = format!(
            "[[registry]]\nlocation = \"{origin}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{mirror}/copies\"\ninsecure = true\n"
        );
        env.file("registries.conf", text)
    };
    let pull = |origin: &Fake, mirror: &Fake, name: &str| {
        let conf = conf(&origin.host(), &mirror.host());
        let creds = format!("{USER}:{PASSWORD}");
        let mut command = env.command(&["pull", "--creds", &creds, "--name", name, &origin.tool()]);
        let output = command.env("CONTAINERS_REGISTRIES_CONF", conf).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    // The shelf answers to any repository.
    pull(&empty, &full, "by-mirror");
    assert!(empty.asked().is_empty());
    let asked = full.asked();
    assert!(asked.iter().all(|request| request.path.starts_with("/v2/copies/team/tool/")), "{asked:?}");
    assert!(asked.iter().all(|request| request.header("authorization").is_none()), "{asked:?}");

    let told = pull(&full, &empty, "by-origin");
    assert!(told.contains("is passed over"), "{told}");
    assert_eq!(empty.asked().len(), 1);
    assert!(full.asked().iter().all(|request| request.path.starts_with("/v2/team/tool/")));
    env.ok(&["pull", "--mirror", &full.host(), PLAIN, "--name", "third", "no.such.host.invalid/team/tool"]);
}

#[test]
fn passwords_come_from_the_option_a_pipe_auth_files_and_helpers() {
    let setup = Setup { user: Some((USER, PASSWORD)), ..Setup::default() };
    let mut server = Server::start(&setup);
    let env = TestEnv::empty();
    TestImage::of_size(1000).write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let tool = server.image("tool");
    let creds = format!("{USER}:{PASSWORD}");
    refused(&env, &["push", PLAIN, "made", &tool], &["refuses access", "log in"]);
    env.ok(&["push", PLAIN, "--creds", &creds, "made", &tool]);

    refused(&env, &["pull", PLAIN, &tool], &["refuses manifest"]);
    let wrong = refused(&env, &["pull", PLAIN, "--creds", "someone:hunter3", &tool], &["may be wrong"]);
    assert!(!wrong.contains("hunter3"), "{wrong}");
    server.requests();
    let pulled = |how: &str, env: &TestEnv| {
        let state = env.ok(&["pull", PLAIN, "-q", &tool]);
        assert_eq!(env.ok(&["cat", &format!("{}:/etc/hello", state.trim())]), "hello\n", "{how}");
        env.ok(&["images", "rm", &format!("{tool}:latest")]);
    };
    let piped =
        env.run_with_input(&["pull", PLAIN, "--creds", USER, &tool], format!("{PASSWORD}\n").as_bytes());
    assert_eq!(piped.code, 0, "{}", piped.stderr);

    let entry = format!(r#"{{"auths":{{"{}":{{"auth":"{BASIC}"}}}}}}"#, server.host());
    for place in [".config/containers/auth.json", ".docker/config.json"] {
        let path = env.file(place, &entry);
        pulled(place, &env);
        std::fs::remove_file(path).unwrap();
    }
    for (variable, place) in [
        ("REGISTRY_AUTH_FILE", "some.json"),
        ("DOCKER_CONFIG", "docker/config.json"),
        ("XDG_RUNTIME_DIR", "run/containers/auth.json"),
    ] {
        let path = env.file(place, &entry);
        let value = match variable {
            "REGISTRY_AUTH_FILE" => path,
            "DOCKER_CONFIG" => env.path("docker"),
            _ => env.path("run"),
        };
        let mut command = env.command(&["pull", PLAIN, &tool]);
        assert!(command.env(variable, value).output().unwrap().status.success(), "{variable}");
        std::fs::remove_file(env.path(place)).unwrap();
    }
    for (key, text) in [
        ("store", r#"{"auths":{"HOST":{}},"credsStore":"test"}"#),
        ("store alone", r#"{"credsStore":"test"}"#),
        ("helper", r#"{"credHelpers":{"HOST":"test"}}"#),
    ] {
        env.file(".docker/config.json", text.replace("HOST", &server.host()));
        let helper = env.file(
            "bin/docker-credential-test",
            format!(
                "#!/bin/sh\nread -r key\n[ \"$key\" = {} ] || {{ echo credentials not found in native keychain; exit 1; }}\n\
                 printf '{{\"ServerURL\":\"%s\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}' \"$key\"\n",
                server.host()
            ),
        );
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", env.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = env.command(&["pull", PLAIN, "--name", "by-helper", &tool]);
        let output = command.env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
        // A helper that fails is named, and what it says is not told.
        std::fs::write(&helper, "#!/bin/sh\necho hunter2; echo hunter2 >&2; exit 3\n").unwrap();
        let output = env.command(&["pull", PLAIN, &tool]).env("PATH", &path).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("docker-credential-test") && !told.contains("hunter2"), "{key}: {told}");
    }
}

#[test]
fn tls_needs_a_certificate_that_is_trusted_or_to_be_told_that_it_does_not() {
    let server = Server::start(&Setup { tls: true, ..Setup::default() });
    let env = TestEnv::empty();
    TestImage::of_size(1000).write_layout(&env.path("layout"));
    env.ok(&["import", "oci:layout", "--name", "made"]);
    let (tool, certificates) = (server.image("tool"), server.certificates());
    let certificates = certificates.to_str().unwrap();
    refused(&env, &["push", "made", &tool], &["certificate", "--cert-dir"]);
    env.ok(&["push", "--cert-dir", certificates, "made", &tool]);
    refused(&env, &["pull", &tool], &["certificate", "--cert-dir"]);
    env.ok(&["pull", "--cert-dir", certificates, &tool]);
    env.ok(&["pull", PLAIN, "--name", "unchecked", &tool]);
    let mut command = env.command(&["pull", "--name", "by-variable", &tool]);
    let bundle = server.certificates().join("ca.crt");
    assert!(command.env("SSL_CERT_FILE", &bundle).output().unwrap().status.success());
    // Where podman users keep them.
    let place = format!(".config/containers/certs.d/{}/ca.crt", server.host());
    env.file(&place, std::fs::read(&bundle).unwrap());
    env.ok(&["pull", "--name", "by-directory", &tool]);

    let plain = Server::open();
    refused(&env, &["pull", &plain.image("tool")], &["does not speak TLS", "--tls-verify=false"]);
}
