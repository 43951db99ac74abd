//! One registry, or a mirror of it, and the requests that read from it.

use std::error::Error as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, HeaderMap, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, redirect};

use super::certificates;
use super::error::RegistryError;
use super::events::Transfer;
use super::mirrors::Endpoint;
use super::options::{Credentials, RegistryOptions};
use super::retry::{Backoff, LONGEST_REST, is_passing, rest};
use super::runtime::unprepared;
use super::token::{Access, Challenge};

pub(super) const USER_AGENT: &str = concat!("treebox/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Without a byte for so long a connection counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
/// Of an error's body no more is read.
const MAX_MESSAGE_BYTES: u64 = 16 * 1024;
const MAX_MESSAGE_CHARS: usize = 300;

/// A registry that is asked for one repository.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) options: RegistryOptions,
    pub(super) credentials: Option<Credentials>,
    pub(super) certificates: Vec<Vec<u8>>,
    http: reqwest::Client,
    /// `https` or `http` once the registry has answered to one of them.
    scheme: Mutex<Option<&'static str>>,
    access: tokio::sync::Mutex<Access>,
    requests: AtomicU64,
}

/// A request that may be made several times.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below `/v2/`.
    pub(super) path: String,
    pub(super) accept: Option<&'a str>,
    /// Bytes that are here already.
    pub(super) offset: u64,
    /// For messages.
    pub(super) what: String,
    /// What a token has to allow.
    pub(super) scopes: Vec<String>,
}

/// Why a body did not come.
pub(super) enum BodyError {
    TooLong,
    Broken(String),
}

impl Client {
    pub(super) fn new(
        endpoint: Endpoint,
        credentials: Option<Credentials>,
        options: &RegistryOptions,
    ) -> Result<Self, RegistryError> {
        install_ring();
        let failed = |error: reqwest::Error| unprepared(&endpoint.host, &told(&error));
        let certificates = certificates::for_host(&endpoint.host, options)?;
        let mut trusted = Vec::new();
        for text in &certificates {
            trusted.extend(Certificate::from_pem_bundle(text).map_err(failed)?);
        }
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirects(endpoint.insecure))
            .tls_danger_accept_invalid_certs(endpoint.insecure)
            .tls_certs_merge(trusted)
            .build()
            .map_err(failed)?;
        Ok(Self {
            endpoint,
            options: options.clone(),
            credentials,
            certificates,
            http,
            scheme: Mutex::new(None),
            access: tokio::sync::Mutex::new(Access::default()),
            requests: AtomicU64::new(0),
        })
    }

    pub(super) fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// How many requests were made.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What a token has to allow for reading the repository.
    pub(super) fn pull_scope(&self) -> Vec<String> {
        vec![format!("repository:{}:pull", self.endpoint.repository)]
    }

    /// Asks until there is an answer that is no error, with what access it takes.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response, RegistryError> {
        let mut renewed = false;
        loop {
            let access = self.access.lock().await.clone();
            let response =
                self.persist(&ask.what, self.host(), |scheme| self.request(ask, scheme, &access)).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !renewed {
                renewed = true;
                let mut current = self.access.lock().await;
                // Another download may have renewed it meanwhile.
                if *current == access {
                    let challenge = Challenge::read(response.headers().get_all(WWW_AUTHENTICATE));
                    match self.gain_access(&challenge, &ask.scopes).await? {
                        Some(gained) if gained != access => *current = gained,
                        _ => return Err(self.refused(response, ask).await),
                    }
                }
                continue;
            }
            if status.is_success() {
                return Ok(response);
            }
            return Err(self.refused(response, ask).await);
        }
    }

    fn request(&self, ask: &Ask<'_>, scheme: &str, access: &Access) -> RequestBuilder {
        let url = format!("{scheme}://{}/v2/{}", self.host(), ask.path);
        let mut request = access.apply(self.http.request(ask.method.clone(), url));
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if ask.offset > 0 {
            request = request.header(RANGE, format!("bytes={}-", ask.offset));
        }
        request
    }

    /// The headers and all bytes of an answer that has no more than `limit_bytes`.
    pub(super) async fn read(
        &self,
        ask: &Ask<'_>,
        limit_bytes: u64,
    ) -> Result<(HeaderMap, Vec<u8>), RegistryError> {
        let mut backoff = Backoff::default();
        loop {
            let response = self.send(ask).await?;
            let headers = response.headers().clone();
            match bounded(response, limit_bytes).await {
                Ok(bytes) => return Ok((headers, bytes)),
                Err(BodyError::TooLong) => {
                    let (host, what) = (self.host().to_owned(), ask.what.clone());
                    return Err(RegistryError::TooLong { host, what, limit_bytes });
                }
                Err(BodyError::Broken(reason)) => self.wait(&ask.what, reason, backoff.next()).await?,
            }
        }
    }

    /// Makes a request again while what goes wrong may pass.
    pub(super) async fn persist(
        &self,
        what: &str,
        host: &str,
        make: impl Fn(&str) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let mut backoff = Backoff::default();
        loop {
            let (reason, wait) = match self.over_either_scheme(&make).await {
                Ok(response) if is_passing(response.status().as_u16()) => {
                    let code = response.status().as_u16();
                    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    let asked = asked.and_then(|text| rest(text, SystemTime::now()));
                    if let Some(asked) = asked.filter(|asked| *asked > LONGEST_REST) {
                        let (host, what, seconds) = (host.to_owned(), what.to_owned(), asked.as_secs());
                        return Err(RegistryError::Rest { host, what, code, seconds });
                    }
                    match backoff.next() {
                        Some(wait) => (format!("{host} answers {code}"), Some(asked.unwrap_or(wait))),
                        None => return Ok(response),
                    }
                }
                Ok(response) => return Ok(response),
                Err(error) => {
                    let reason = told(&error);
                    let passing =
                        !(error.is_builder() || error.is_redirect() || reason.contains("certificate"));
                    let next = if error.is_connect() { backoff.next_connect() } else { backoff.next() };
                    (reason, next.filter(|_| passing))
                }
            };
            self.wait(what, reason, wait).await?;
        }
    }

    /// Waits, or fails when there is no next time.
    pub(super) async fn wait(
        &self,
        what: &str,
        reason: String,
        wait: Option<Duration>,
    ) -> Result<(), RegistryError> {
        let Some(after) = wait else {
            return Err(RegistryError::Unreachable {
                host: self.host().to_owned(),
                what: what.to_owned(),
                reason: self.explained(reason),
            });
        };
        self.options.listener.tell(|| Transfer::Again { what: what.to_owned(), reason, after });
        tokio::time::sleep(after).await;
        Ok(())
    }

    /// Plain HTTP is tried where it may be, after HTTPS.
    async fn over_either_scheme(
        &self,
        make: &impl Fn(&str) -> RequestBuilder,
    ) -> Result<Response, reqwest::Error> {
        let known = *self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        let schemes: &[&'static str] = match known {
            Some("http") => &["http"],
            None if self.endpoint.insecure => &["https", "http"],
            _ => &["https"],
        };
        let mut last = None;
        for scheme in schemes {
            self.requests.fetch_add(1, Ordering::Relaxed);
            match make(scheme).send().await {
                Ok(response) => {
                    *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
                    return Ok(response);
                }
                Err(error) if error.is_connect() => {
                    // Nothing was asked yet.
                    self.requests.fetch_sub(1, Ordering::Relaxed);
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("there is always a scheme to try"))
    }

    /// The scheme that the registry has answered to.
    pub(super) fn scheme(&self) -> &'static str {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or("https")
    }

    pub(super) async fn access(&self) -> Access {
        self.access.lock().await.clone()
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// What an error's answer means.
    async fn refused(&self, response: Response, ask: &Ask<'_>) -> RegistryError {
        let code = response.status().as_u16();
        let named = self.credentials.is_some();
        let (host, what, message) = (self.host().to_owned(), ask.what.clone(), message(response).await);
        match code {
            401 | 403 => RegistryError::Denied { host, what, message, named },
            404 => RegistryError::NotFound { host, what, message },
            code => RegistryError::Status { host, what, code, message },
        }
    }

    fn explained(&self, reason: String) -> String {
        if is_plain(&reason) {
            "it does not speak TLS: if it should be plain HTTP, say --tls-verify=false".into()
        } else if is_untrusted(&reason) {
            format!("{reason}; name the directory of its certificate with --cert-dir")
        } else {
            reason
        }
    }
}

/// What rustls says of a server that answers a greeting in plain text.
fn is_plain(reason: &str) -> bool {
    reason.contains("corrupt message")
}

/// What rustls says of a certificate that does not hold.
fn is_untrusted(reason: &str) -> bool {
    reason.contains("certificate")
}

/// Does nothing when the program that this library is part of has chosen a provider already.
pub(super) fn install_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Follows redirects, but none that leads from HTTPS to plain HTTP. What is secret stays behind when the host changes: `reqwest` sees to it.
fn redirects(insecure: bool) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let from_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("it is redirected again and again")
        } else if from_safe && attempt.url().scheme() != "https" && !insecure {
            attempt.error("it is redirected from HTTPS to plain HTTP")
        } else {
            attempt.follow()
        }
    })
}

/// All bytes of a body, or the reason why not.
pub(super) async fn bounded(mut response: Response, limit_bytes: u64) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > limit_bytes) {
        return Err(BodyError::TooLong);
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (bytes.len() + chunk.len()) as u64 > limit_bytes => {
                return Err(BodyError::TooLong);
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(BodyError::Broken(told(&error))),
        }
    }
}

/// What a registry says about an error: the first of its messages, on one line.
pub(super) async fn message(response: Response) -> String {
    let Ok(bytes) = bounded(response, MAX_MESSAGE_BYTES).await else { return String::new() };
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let first = value.get("errors").and_then(|errors| errors.get(0));
    let field = |key| first.and_then(|error| error.get(key)).and_then(serde_json::Value::as_str);
    let text = field("message").filter(|text| !text.is_empty()).or_else(|| field("code")).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

/// An error with its causes and without the address, which may be a signed one.
pub(super) fn told(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // What hyper says first: which half of its work it was.
        if !text.starts_with("client error") && !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        cause = error.source();
    }
    match parts.is_empty() {
        true if error.is_timeout() => "the time is up".into(),
        true if error.is_body() || error.is_decode() => "the connection broke off".into(),
        true => "it cannot be sent".into(),
        false => parts.join(": "),
    }
}
