//! One blob from a registry into the originals: goes on where it was cut off, and is fetched by one process at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};

use super::client::{Ask, Client, told};
use super::error::RegistryError;
use super::events::Transfer;
use super::retry::Backoff;
use crate::disk::{DiskError, FileLock, LockMode, create_dir_all_private};
use crate::oci::digest::{Algorithm, Digest, Hasher};
use crate::oci::originals::Originals;

/// How often it is looked whether another process is done with a blob.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 1 << 17;

/// Fetches a blob unless it is there; gives how many bytes came over the network.
pub(super) async fn blob(
    client: &Client,
    originals: &Originals,
    digest: &Digest,
    size: u64,
) -> Result<u64, RegistryError> {
    if originals.has(digest)? {
        return Ok(0);
    }
    let path = originals.partial(digest);
    create_dir_all_private(path.parent().expect("a partial file lies in a directory"))?;
    let _lock = lock(client, &path, digest).await?;
    if originals.has(digest)? {
        // Whoever held the lock has done it. What locking made is in nobody's way but has no use.
        let _ = std::fs::remove_file(&path);
        return Ok(0);
    }
    originals.reserve(size)?;
    let mut download =
        Download { client, digest, size, partial: Partial::open(&path, digest, size)?, fetched: 0 };
    let resumed = download.partial.len > 0;
    download.run().await?;
    let mut found = download.partial.hasher.clone().finish();
    if found != *digest && resumed {
        // What lay here may have been the fault; what comes now is all the registry's.
        download.partial.restart()?;
        download.run().await?;
        found = download.partial.hasher.clone().finish();
    }
    if found != *digest {
        remove(&path)?;
        return Err(RegistryError::Mismatch {
            host: client.host().to_owned(),
            what: format!("blob {digest}"),
            found: found.to_string(),
        });
    }
    originals.adopt(digest, &path)?;
    client.options.listener.tell(|| Transfer::Done { digest: digest.to_string() });
    Ok(download.fetched)
}

/// Other downloads go on while this one waits, so the lock is asked for again and again.
async fn lock(client: &Client, path: &Path, digest: &Digest) -> Result<FileLock, RegistryError> {
    let mut told = false;
    loop {
        if let Some(lock) = FileLock::try_acquire(path, LockMode::Exclusive)? {
            return Ok(lock);
        }
        if !told {
            told = true;
            client.options.listener.tell(|| Transfer::Waiting { digest: digest.to_string() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn remove(path: &Path) -> Result<(), DiskError> {
    std::fs::remove_file(path).map_err(|error| DiskError::new("remove", path, error))
}

struct Download<'d> {
    client: &'d Client,
    digest: &'d Digest,
    size: u64,
    partial: Partial,
    /// Bytes that came over the network.
    fetched: u64,
}

impl Download<'_> {
    /// Gets what is missing.
    async fn run(&mut self) -> Result<(), RegistryError> {
        let mut backoff = Backoff::default();
        self.begun();
        while self.partial.len < self.size {
            let before = self.fetched;
            if let Some(reason) = self.attempt().await? {
                if self.fetched > before {
                    backoff.progress();
                }
                let what = format!("blob {}", self.digest);
                self.client.wait(&what, reason, backoff.next()).await?;
                self.begun();
            }
        }
        Ok(())
    }

    fn begun(&self) {
        self.client.options.listener.tell(|| Transfer::Begun {
            digest: self.digest.to_string(),
            size_bytes: self.size,
            done_bytes: self.partial.len,
        });
    }

    /// One request; gives the reason when it broke off.
    async fn attempt(&mut self) -> Result<Option<String>, RegistryError> {
        let mut ask = self.ask();
        let mut response = match self.client.send(&ask).await {
            Err(RegistryError::Status { code: 416, .. }) if ask.offset > 0 => {
                self.partial.restart()?;
                ask.offset = 0;
                self.client.send(&ask).await?
            }
            other => other?,
        };
        let goes_on =
            response.status() == StatusCode::PARTIAL_CONTENT && begins_at(&response, self.partial.len);
        if self.partial.len > 0 && !goes_on {
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Err(RegistryError::Protocol {
                    host: self.client.host().to_owned(),
                    reason: format!("it sends another part of blob {} than it was asked for", self.digest),
                });
            }
            // A registry that knows no ranges sends all of it.
            self.partial.restart()?;
            self.begun();
        }
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let count = chunk.len() as u64;
                    if self.partial.len + count > self.size {
                        remove(&self.partial.path)?;
                        return Err(RegistryError::TooLong {
                            host: self.client.host().to_owned(),
                            what: ask.what,
                            limit_bytes: self.size,
                        });
                    }
                    self.partial.append(&chunk)?;
                    self.fetched += count;
                    self.client
                        .options
                        .listener
                        .tell(|| Transfer::Moved { digest: self.digest.to_string(), bytes: count });
                }
                Ok(None) if self.partial.len < self.size => {
                    return Ok(Some(format!("it ended after {} of {} bytes", self.partial.len, self.size)));
                }
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(told(&error))),
            }
        }
    }

    fn ask(&self) -> Ask<'static> {
        Ask {
            method: Method::GET,
            path: format!("{}/blobs/{}", self.client.endpoint.repository, self.digest),
            accept: None,
            offset: self.partial.len,
            what: format!("blob {}", self.digest),
            scopes: self.client.pull_scope(),
        }
    }
}

fn begins_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first =
        range.and_then(|text| text.trim().strip_prefix("bytes")?.trim().split('-').next()?.parse().ok());
    first == Some(offset)
}

/// What of a blob is here, and its running digest.
struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    algorithm: Algorithm,
    hasher: Hasher,
}

impl Partial {
    /// Takes up what an earlier download left; the lock on it is held.
    fn open(path: &Path, digest: &Digest, size: u64) -> Result<Self, DiskError> {
        let failed = |error| DiskError::new("open", path, error);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut len = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    len += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new("read", path, error)),
            }
        }
        let algorithm = digest.algorithm();
        let mut partial = Self { path: path.to_owned(), file, len, algorithm, hasher };
        // As long as the blob and not it, or longer: nothing can be added to that.
        if len > size || len == size && partial.hasher.clone().finish() != *digest {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all(bytes).map_err(|error| DiskError::new("write to", &self.path, error))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Begins again from nothing.
    fn restart(&mut self) -> Result<(), DiskError> {
        let failed = |error| DiskError::new("truncate", &self.path, error);
        self.file.set_len(0).map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.hasher = Hasher::new(self.algorithm);
        self.len = 0;
        Ok(())
    }
}
