//! From parts of an image to a registry: what it lacks, then the manifest.

use std::collections::HashSet;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, try_unfold};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::RegistryTokenType;
use oci_client::{Reference as Place, RegistryOperation};
use reqwest::Method;
use reqwest::header::HeaderValue;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Ask, Client, USER_AGENT, told};
use super::error::RegistryError;
use super::events::{Listener, Transfer};
use super::retry::{Backoff, is_passing};
use super::token::Access;
use super::{PushRequest, Sent, Upload, UploadBytes, auth, mirrors, runtime};
use crate::disk::DiskError;

const CHUNK_BYTES: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A registry may check all of a large blob before it answers.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Of tokens that do not say themselves how long they are good for.
const TOKEN_SECONDS: usize = 24 * 60 * 60;
const MAX_MESSAGE_CHARS: usize = 300;

pub(super) fn push(request: &PushRequest<'_>) -> Result<Sent, RegistryError> {
    let place = mirrors::for_push(request.reference, request.options)?;
    let runtime = runtime::start()?;
    let credentials = auth::credentials(&place, request.options)?;
    let client = Arc::new(Client::new(place, credentials, request.options)?);
    runtime.block_on(send(client, request))
}

async fn send(client: Arc<Client>, request: &PushRequest<'_>) -> Result<Sent, RegistryError> {
    let repository = client.endpoint.repository.clone();
    let from = request.from.filter(|from| from.registry() == request.reference.registry());
    let from = from.map(|from| from.repository().to_owned()).filter(|from| *from != repository);
    let session = Arc::new(Session::open(client, from, request.reference.wanted()).await?);
    let mut sent =
        Sent { digest: request.manifest.digest.clone(), sent: 0, mounted: 0, present: 0, sent_bytes: 0 };
    let places = Arc::new(Semaphore::new(request.options.jobs()));
    let mut tasks = JoinSet::new();
    let mut seen = HashSet::new();
    for blob in request.blobs.iter().filter(|blob| seen.insert(&blob.digest)) {
        let (session, places, blob) = (Arc::clone(&session), Arc::clone(&places), blob.clone());
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            session.blob(&blob).await.map(|way| (way, blob.size))
        });
    }
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(done) => match done? {
                (Way::Present, _) => sent.present += 1,
                (Way::Mounted, _) => sent.mounted += 1,
                (Way::Sent, size) => {
                    sent.sent += 1;
                    sent.sent_bytes += size;
                }
            },
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    // Last, for it names all the others.
    session.manifest(request.manifest).await?;
    Ok(sent)
}

/// How a blob came to be in the registry.
enum Way {
    Present,
    Mounted,
    Sent,
}

/// A registry that lets itself be written to.
struct Session {
    client: Arc<Client>,
    writer: Mutex<Arc<oci_client::Client>>,
    /// Where the manifest goes.
    to: Place,
    /// A repository of the same registry that has parts of the image.
    from: Option<Place>,
    scopes: Vec<String>,
}

/// What is to be done about an error.
enum Judged {
    Passing(String),
    NoAccess(RegistryError),
    Final(RegistryError),
}

impl Session {
    async fn open(client: Arc<Client>, from: Option<String>, wanted: String) -> Result<Self, RegistryError> {
        let (host, repository) = (client.host().to_owned(), client.endpoint.repository.clone());
        let mut scopes = vec![format!("repository:{repository}:pull,push")];
        scopes.extend(from.iter().map(|from| format!("repository:{from}:pull")));
        let from = from.map(|from| Place::with_tag(host.clone(), from, "latest".into()));
        // As a tag, though it may be a digest: `oci-client` falls over a registry that does not repeat a digest.
        let to = Place::with_tag(host, repository, wanted);
        client.send(&ping(&scopes)).await?;
        let writer = Mutex::new(Arc::new(writer(&client, &to).await?));
        Ok(Self { client, writer, to, from, scopes })
    }

    /// Makes a call again while what goes wrong may pass, with new access when the old one is over.
    async fn call<T, F>(
        &self,
        what: &str,
        make: impl Fn(Arc<oci_client::Client>) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, OciDistributionError>>,
    {
        let mut backoff = Backoff::default();
        let mut renewed = false;
        loop {
            let current = Arc::clone(&self.writer.lock().unwrap_or_else(PoisonError::into_inner));
            let error = match make(current).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            match self.judge(what, error) {
                Judged::Final(error) => return Err(error),
                Judged::Passing(reason) => self.client.wait(what, reason, backoff.next()).await?,
                Judged::NoAccess(_) if !renewed => {
                    renewed = true;
                    self.client.send(&ping(&self.scopes)).await?;
                    let new = Arc::new(writer(&self.client, &self.to).await?);
                    *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = new;
                }
                Judged::NoAccess(error) => return Err(error),
            }
        }
    }

    async fn blob(&self, blob: &Upload) -> Result<Way, RegistryError> {
        let digest = blob.digest.to_string();
        let what = format!("blob {digest}");
        let there = self.call(&what, |writer| {
            let (to, digest) = (&self.to, &digest);
            async move { writer.blob_exists(to, digest).await }
        });
        if there.await? {
            return Ok(Way::Present);
        }
        if let Some(from) = &self.from {
            let writer = Arc::clone(&self.writer.lock().unwrap_or_else(PoisonError::into_inner));
            // A registry that cannot, or will not show the other repository, gets the bytes.
            if writer.mount_blob(&self.to, from, &digest).await.is_ok() {
                return Ok(Way::Mounted);
            }
        }
        let listener = &self.client.options.listener;
        // An unreadable file is told as such, and not as a connection that broke off.
        open(blob)?;
        self.call(&what, |writer| {
            let (to, digest) = (&self.to, &digest);
            async move {
                listener.tell(|| Transfer::Begun {
                    digest: digest.clone(),
                    size_bytes: blob.size,
                    done_bytes: 0,
                });
                let stream = stream(blob, listener.clone()).map_err(std::io::Error::other)?;
                writer.push_blob_stream(to, stream, digest, Some(blob.size)).await
            }
        })
        .await?;
        listener.tell(|| Transfer::Done { digest: digest.clone() });
        Ok(Way::Sent)
    }

    async fn manifest(&self, manifest: &Upload) -> Result<(), RegistryError> {
        let what = format!("manifest {}", manifest.digest);
        let mut bytes = Vec::new();
        open(manifest)?.read_to_end(&mut bytes).map_err(|error| unreadable(manifest, error))?;
        let bytes = Bytes::from(bytes);
        let media_type =
            HeaderValue::from_str(&manifest.media_type).map_err(|_| RegistryError::Protocol {
                host: self.client.host().to_owned(),
                reason: "the manifest's media type cannot be told to it".into(),
            })?;
        self.call(&what, |writer| {
            let (to, bytes, media_type) = (&self.to, bytes.clone(), media_type.clone());
            async move { writer.push_manifest_raw(to, bytes, media_type).await }
        })
        .await?;
        Ok(())
    }

    /// What an error means. Addresses are left out: they may be signed.
    fn judge(&self, what: &str, error: OciDistributionError) -> Judged {
        match error {
            OciDistributionError::RequestError(error) => match error.status() {
                Some(status) => self.judge_status(what, status.as_u16(), ""),
                None => Judged::Passing(told(&error)),
            },
            OciDistributionError::IoError(error) => Judged::Passing(error.to_string()),
            OciDistributionError::ServerError { code, message, .. } => {
                self.judge_status(what, code, &message)
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => self.judge_status(what, 401, ""),
            OciDistributionError::RegistryError { envelope, .. } => {
                let first = envelope.errors.into_iter().next();
                let code = match first.as_ref().map(|error| &error.code) {
                    Some(OciErrorCode::Unauthorized) => 401,
                    Some(OciErrorCode::Denied) => 403,
                    Some(OciErrorCode::Toomanyrequests) => 429,
                    _ => 400,
                };
                self.judge_status(what, code, &first.map(|error| error.message).unwrap_or_default())
            }
            error => Judged::Final(RegistryError::Protocol {
                host: self.client.host().to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    fn judge_status(&self, what: &str, code: u16, body: &str) -> Judged {
        let (host, what, message) = (self.client.host().to_owned(), what.to_owned(), said(body));
        let named = self.client.credentials.is_some();
        match code {
            401 => Judged::NoAccess(RegistryError::Denied { host, what, message, named }),
            403 => Judged::Final(RegistryError::Denied { host, what, message, named }),
            404 => Judged::Final(RegistryError::NotFound { host, what, message }),
            code if is_passing(code) => Judged::Passing(format!("{host} answers {code}")),
            code => Judged::Final(RegistryError::Status { host, what, code, message }),
        }
    }
}

/// The first message of an error's body, on one line.
fn said(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let first = value.get("errors").and_then(|errors| errors.get(0)).and_then(|error| error.get("message"));
    let text = first.and_then(serde_json::Value::as_str).unwrap_or(if value.is_null() { body } else { "" });
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

fn ping(scopes: &[String]) -> Ask<'static> {
    Ask {
        method: Method::GET,
        path: String::new(),
        accept: None,
        offset: 0,
        what: "access".into(),
        scopes: scopes.to_vec(),
    }
}

/// What writes, with the access that was gained. It asks for none by itself.
async fn writer(client: &Client, to: &Place) -> Result<oci_client::Client, RegistryError> {
    let host = client.host().to_owned();
    let protocol = match client.scheme() {
        "http" => ClientProtocol::HttpsExcept(vec![host.clone()]),
        _ => ClientProtocol::Https,
    };
    let certificates = client.certificates.iter().flat_map(|bundle| blocks(bundle));
    let config = ClientConfig {
        protocol,
        accept_invalid_certificates: client.endpoint.insecure,
        use_monolithic_push: true,
        extra_root_certificates: certificates
            .map(|data| Certificate { encoding: CertificateEncoding::Pem, data })
            .collect(),
        platform_resolver: None,
        default_token_expiration_secs: TOKEN_SECONDS,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: USER_AGENT,
        ..ClientConfig::default()
    };
    // `new` would go on with other settings when these do not work.
    let writer = oci_client::Client::try_from(config).map_err(|error| runtime::unprepared(&host, &error))?;
    match client.access().await {
        Access::Open => {}
        Access::Bearer(token) => writer.store_auth_if_needed(&host, &RegistryAuth::Bearer(token)).await,
        Access::Basic { user, password } => {
            writer.store_auth_if_needed(&host, &RegistryAuth::Anonymous).await;
            for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
                let token = RegistryTokenType::Basic(user.clone(), password.clone());
                writer.tokens.insert(to, operation, token).await;
            }
        }
    }
    Ok(writer)
}

/// The certificates of a bundle one by one.
fn blocks(bundle: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(bundle);
    text.split_inclusive(END)
        .filter(|block| block.ends_with(END))
        .map(|block| block.as_bytes().to_vec())
        .collect()
}

fn unreadable(blob: &Upload, error: std::io::Error) -> DiskError {
    match &blob.bytes {
        UploadBytes::File(path) => DiskError::new("read", path, error),
        UploadBytes::Memory(_) => DiskError::new("read", blob.digest.to_string(), error),
    }
}

fn open(blob: &Upload) -> Result<Box<dyn Read + Send + Sync>, DiskError> {
    Ok(match &blob.bytes {
        UploadBytes::Memory(bytes) => Box::new(std::io::Cursor::new(bytes.clone())),
        UploadBytes::File(path) => Box::new(File::open(path).map_err(|error| unreadable(blob, error))?),
    })
}

/// A blob's bytes as they are sent.
fn stream(
    blob: &Upload,
    listener: Listener,
) -> Result<impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static, DiskError> {
    let digest = blob.digest.clone();
    Ok(try_unfold((open(blob)?, digest, listener), |(mut reader, digest, listener)| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            return Ok(None);
        }
        chunk.truncate(count);
        listener.tell(|| Transfer::Moved { digest: digest.to_string(), bytes: count as u64 });
        Ok(Some((Bytes::from(chunk), (reader, digest, listener))))
    }))
}
