//! A registry of a few lines that does whatever a test wants done, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::image::{MANIFEST, TestImage, digest};

/// What was asked; names of headers are in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query; a proxy gets the whole address.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// The body goes on for ever, and no length is told.
    pub endless: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None, endless: false }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }
}

/// What a registry has.
#[derive(Default, Clone)]
pub struct Shelf {
    /// By tag and by digest.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    pub blobs: HashMap<String, Vec<u8>>,
}

impl Shelf {
    pub fn of(image: &TestImage) -> Self {
        let mut shelf = Self::default();
        shelf.add(image);
        shelf.name("latest", MANIFEST, &image.manifest);
        shelf
    }

    pub fn add(&mut self, image: &TestImage) {
        self.blobs.extend(image.blobs().map(|blob| (digest(blob), blob.clone())));
        self.name(&image.digest(), MANIFEST, &image.manifest);
    }

    pub fn name(&mut self, name: &str, media_type: &str, bytes: &[u8]) {
        for name in [name, &digest(bytes)] {
            self.manifests.insert(name.to_owned(), (media_type.to_owned(), bytes.to_vec()));
        }
    }

    /// What a well-behaved registry answers.
    pub fn answer(&self, request: &Request) -> Reply {
        let missing = Reply::new(404, r#"{"errors":[{"code":"NOT_FOUND","message":"no such thing"}]}"#);
        let Some(rest) = request.path.strip_prefix("/v2/") else { return missing };
        if rest.is_empty() {
            return Reply::new(200, "{}");
        }
        if let Some((_, name)) = rest.split_once("/manifests/") {
            return match self.manifests.get(name) {
                Some((media_type, bytes)) => Reply::new(200, bytes.clone())
                    .header("Content-Type", media_type)
                    .header("Docker-Content-Digest", digest(bytes)),
                None => missing,
            };
        }
        let Some(blob) = rest.split_once("/blobs/").and_then(|(_, name)| self.blobs.get(name)) else {
            return missing;
        };
        let from = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            Some(from) if from > 0 && from < blob.len() => Reply::new(206, &blob[from..])
                .header("Content-Range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
            Some(from) if from > 0 => Reply::new(416, ""),
            _ => Reply::new(200, blob.clone()),
        }
    }
}

/// A server on a port of its own; it ends with the test program.
pub struct Fake {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || {
                    // A client that goes away early is part of some tests.
                    if let Some(request) = read(&stream) {
                        seen.lock().unwrap().push(request.clone());
                        let _ = write(&stream, &request, &answer(&request));
                    }
                });
            }
        });
        Self { port, requests }
    }

    /// Serves a shelf as a well-behaved registry does.
    pub fn serving(shelf: Shelf) -> Self {
        Self::start(move |request| shelf.answer(request))
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A reference to the image `tool` of this registry.
    pub fn tool(&self) -> String {
        format!("{}/team/tool", self.host())
    }

    /// What was asked so far; it is forgotten then.
    pub fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// The same in words.
    pub fn lines(&self) -> Vec<String> {
        self.asked().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

pub fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    // A TLS greeting is no request.
    if reader.fill_buf().ok()?.first() == Some(&0x16) {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn write(mut stream: &TcpStream, request: &Request, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.endless {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..end])?;
    if !reply.endless {
        return Ok(());
    }
    loop {
        stream.write_all(&[b'x'; 65536])?;
    }
}
