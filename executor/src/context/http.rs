//! Downloads: what ADD and a context name by URL.
//!
//! Responsible for fetching one URL into a file, verified, with retries. Must not interpret the
//! content. The only place here with asynchronous code, behind a function that blocks.
//! Invariant: a file is handed out only when it is complete and its checksum, if one was given,
//! is right; memory is one chunk.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{
    AUTHORIZATION, CONTENT_DISPOSITION, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::image::digest::{Digest, HashingWriter};
use crate::redact;

/// Name of a download whose URL and reply give none; BuildKit's.
pub const UNNAMED: &str = "__unnamed__";

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Value of `User-Agent`.
    pub user_agent: String,
    /// Largest download, in bytes.
    pub limit: u64,
    /// How often a failure that may pass is tried again.
    pub retries: u32,
    /// Wait before the first retry; doubled each time.
    pub backoff: Duration,
    /// How long a connection may be silent.
    pub timeout: Duration,
    /// Value of `Authorization`; it is not sent on to other hosts.
    pub authorization: Option<String>,
    /// What an earlier download came with: when the server says that this still holds, nothing is
    /// transferred.
    pub known: Validators,
}

/// What a server calls a version of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, verbatim.
    pub etag: Option<String>,
    /// `Last-Modified`, verbatim.
    pub last_modified: Option<String>,
}

impl Validators {
    fn of(response: &Response) -> Self {
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Self {
            etag: header(ETAG),
            last_modified: header(LAST_MODIFIED),
        }
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("sandcrab/", env!("CARGO_PKG_VERSION")).to_owned(),
            limit: 64 << 30,
            retries: 4,
            backoff: Duration::from_millis(500),
            timeout: Duration::from_secs(60),
            authorization: None,
            known: Validators::default(),
        }
    }
}

/// A finished download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Directory of its own; the file is the only entry.
    pub dir: PathBuf,
    /// The file: mode 0600, with the time of `Last-Modified` or else of the epoch.
    pub path: PathBuf,
    /// Last component of the URL's path, else the name that the reply proposes; `None` when
    /// there is neither, which only a destination that names a file can do without.
    pub name: Option<String>,
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: u64,
    /// What the server calls this version.
    pub validators: Validators,
}

/// Returns what stands for a download in a cache key: name, content and time.
pub fn key(name: Option<&str>, digest: &Digest, mtime: u64) -> Digest {
    let name = name.unwrap_or(UNNAMED);
    Digest::of(format!("sandcrab download 1\n{digest}\n{mtime}\n{name}").as_bytes())
}

/// Writes a download's file into a new directory: `content` under its name, with its mode and time.
pub fn write_file(
    content: &mut dyn Read,
    name: Option<&str>,
    mtime: u64,
    dir: &Path,
) -> Result<PathBuf> {
    std::fs::create_dir(dir).op_path("create", dir)?;
    let path = dir.join(name.and_then(plain).as_deref().unwrap_or(UNNAMED));
    let mut file = File::create(&path).op_path("create", &path)?;
    std::io::copy(content, &mut file).op_path("write", &path)?;
    settle(&file, mtime).op_path("set the status of", &path)?;
    Ok(path)
}

/// Why one attempt failed.
enum Failure {
    /// Trying again may help; the wait that the server asked for.
    Passing(Error, Option<Duration>),
    /// It will not.
    Final(Error),
}

/// Fetches `url` into a new directory in `tmp`, whatever is known of it.
///
/// # Errors
/// Those of [`fetch_changed`].
pub fn fetch(
    url: &str,
    checksum: Option<&Digest>,
    options: &FetchOptions,
    tmp: &Path,
) -> Result<Fetched> {
    let options = FetchOptions {
        known: Validators::default(),
        ..options.clone()
    };
    fetch_changed(url, checksum, &options, tmp)?
        .ok_or_else(|| Error::new("the server left out what nobody has").during("fetch"))
}

/// Fetches `url` into a new directory in `tmp`; `None` when it is what the options know of.
///
/// # Errors
/// When the URL is malformed, the server refuses, the content is larger than the limit, or its
/// digest is not `checksum`.
pub fn fetch_changed(
    url: &str,
    checksum: Option<&Digest>,
    options: &FetchOptions,
    tmp: &Path,
) -> Result<Option<Fetched>> {
    let parsed = Url::parse(url)
        .map_err(|e| Error::new(format!("invalid URL `{}`", redact::text(url))).source(e))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .op("start the HTTP client")?;
    let dir = tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(tmp)
        .op_path("make a directory in", tmp)?;
    let fetched = runtime.block_on(with_retries(&parsed, checksum, options, dir.path()));
    let fetched = fetched.map_err(|e| e.during(format!("fetch {}", redact::text(url))))?;
    if fetched.is_some() {
        // The file now belongs to whoever asked for it.
        drop(dir.keep());
    }
    Ok(fetched)
}

async fn with_retries(
    url: &Url,
    checksum: Option<&Digest>,
    options: &FetchOptions,
    dir: &Path,
) -> Result<Option<Fetched>> {
    let client = Client::builder()
        .user_agent(&options.user_agent)
        .connect_timeout(options.timeout)
        .read_timeout(options.timeout)
        .build()
        .op("set up the HTTP client")?;
    let mut wait = options.backoff;
    let mut left = options.retries;
    loop {
        match attempt(&client, url, checksum, options, dir).await {
            Ok(fetched) => return Ok(fetched),
            Err(Failure::Passing(_, asked)) if left > 0 => {
                left -= 1;
                tokio::time::sleep(asked.unwrap_or(wait).min(options.timeout)).await;
                wait *= 2;
            }
            Err(Failure::Passing(error, _) | Failure::Final(error)) => return Err(error),
        }
    }
}

async fn attempt(
    client: &Client,
    url: &Url,
    checksum: Option<&Digest>,
    options: &FetchOptions,
    dir: &Path,
) -> Result<Option<Fetched>, Failure> {
    let limit = options.limit;
    let passing = |e: reqwest::Error| Failure::Passing(network(e), None);
    let mut request = client.get(url.clone());
    let headers = [
        (AUTHORIZATION, &options.authorization),
        (IF_NONE_MATCH, &options.known.etag),
        (IF_MODIFIED_SINCE, &options.known.last_modified),
    ];
    for (name, value) in headers {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let mut response = request.send().await.map_err(passing)?;
    if response.status() == StatusCode::NOT_MODIFIED && !options.known.is_empty() {
        return Ok(None);
    }
    check_status(&response)?;
    let too_large = || {
        Failure::Final(Error::new(format!(
            "the content is larger than {limit} bytes"
        )))
    };
    if response.content_length().is_some_and(|n| n > limit) {
        return Err(too_large());
    }
    let name = file_name(url, &response);
    let mtime = last_modified(&response);
    let validators = Validators::of(&response);
    let path = dir.join(name.as_deref().unwrap_or(UNNAMED));
    let file = File::create(&path).op_path("create", &path);
    let mut out = HashingWriter::new(file.map_err(Failure::Final)?);
    while let Some(chunk) = response.chunk().await.map_err(passing)? {
        out.write_all(&chunk)
            .op_path("write", &path)
            .map_err(Failure::Final)?;
        if out.count() > limit {
            return Err(too_large());
        }
    }
    let (file, digest, size) = out.finish();
    if let Some(expected) = checksum
        && *expected != digest
    {
        return Err(Failure::Final(Error::new(format!(
            "checksum mismatch: expected {expected}, got {digest} ({size} bytes)"
        ))));
    }
    settle(&file, mtime)
        .op_path("set the status of", &path)
        .map_err(Failure::Final)?;
    Ok(Some(Fetched {
        dir: dir.to_owned(),
        path,
        name,
        digest,
        size,
        mtime,
        validators,
    }))
}

fn settle(file: &File, mtime: u64) -> std::io::Result<()> {
    rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(0o600))?;
    file.set_modified(UNIX_EPOCH + Duration::from_secs(mtime))
}

fn check_status(response: &Response) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let error = Error::new(format!("the server answered {status}"));
    Err(match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Failure::Passing(error, retry_after(response))
        }
        _ if status.is_server_error() => Failure::Passing(error, retry_after(response)),
        StatusCode::NOT_FOUND | StatusCode::GONE => Failure::Final(error.kind(Kind::NotFound)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::Final(error.kind(Kind::Denied))
        }
        _ => Failure::Final(error),
    })
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

/// Strips the URL, which is named already and may hold a password.
fn network(error: reqwest::Error) -> Error {
    Error::new("the transfer did not complete").source(error.without_url())
}

fn file_name(url: &Url, response: &Response) -> Option<String> {
    let from_path = url
        .path_segments()
        .and_then(|mut parts| parts.next_back().map(percent_decode))
        .and_then(|name| plain(&name));
    from_path.or_else(|| {
        let value = response.headers().get(CONTENT_DISPOSITION)?.to_str().ok()?;
        proposed_name(value)
    })
}

/// Takes the name from a `Content-Disposition` (RFC 6266); the extended notation is not read.
fn proposed_name(value: &str) -> Option<String> {
    let mut parts = value.split(';');
    let found = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("filename").then_some(value)
    })?;
    plain(found.trim().trim_matches('"'))
}

/// Accepts a name that is one component of a path.
fn plain(name: &str) -> Option<String> {
    let fits = !matches!(name, "" | "." | "..") && name.len() <= 255;
    (fits && !name.contains(['/', '\0'])).then(|| name.to_owned())
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the time of `Last-Modified` in seconds; 0 without one, as in BuildKit.
fn last_modified(response: &Response) -> u64 {
    let header = response.headers().get(LAST_MODIFIED);
    let time = header.and_then(|v| jiff::fmt::rfc2822::parse(v.to_str().ok()?).ok());
    time.and_then(|t| {
        SystemTime::from(t.timestamp())
            .duration_since(UNIX_EPOCH)
            .ok()
    })
    .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
