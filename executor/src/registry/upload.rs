//! Blobs and manifests to a registry.
//!
//! Responsible for sending only what the registry lacks (distribution-spec, "Pushing": existence
//! check, mount from another repository, upload session), for going on where a broken connection
//! stopped if the registry can, and for noticing one that takes nothing. Must not know where blobs
//! come from: a [`BlobSource`] opens one as often as needed.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::auth::Access;
use super::client::{Repository, stated_digest};
use super::endpoint::{Call, Redirects};
use super::retry::{Backoff, Failure};
use super::source::{Artifact, BlobSource, stream_body};
use super::transfer::{Meter, Traffic};
use super::transport::SILENCE;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;

/// How long a registry may take to finish a blob that it has received: some copy it first.
const FINISH: Duration = Duration::from_secs(600);

/// How often an upload is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Size of a request's body where the registry or a proxy refuses larger ones, in bytes.
const CHUNK: u64 = 32 << 20;

/// An upload session.
#[derive(Debug, Clone)]
struct Session {
    location: Url,
    offset: u64,
    /// Whether `offset` is known to be the registry's.
    sure: bool,
}

enum Mounted {
    Done,
    /// The registry opened a session instead.
    Session(Session),
    No,
}

enum Sent {
    All,
    /// Refused for the size of one request.
    TooLarge,
}

impl Repository<'_> {
    /// Pushes all blobs, several at a time. `sibling` is a repository of the same registry that
    /// has just got them.
    pub(crate) async fn push_blobs(
        &self,
        sources: &[BlobSource],
        sibling: Option<&str>,
        traffic: &Traffic,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let distinct = sources.iter().filter(|s| seen.insert(s.descriptor.digest));
        stream::iter(distinct)
            .map(|source| self.push_blob(source, sibling, traffic))
            .buffer_unordered(traffic.size())
            .try_collect()
            .await
    }

    async fn push_blob(
        &self,
        source: &BlobSource,
        sibling: Option<&str>,
        traffic: &Traffic,
    ) -> Result<()> {
        let digest = &source.descriptor.digest;
        let _slot = traffic.slot().await;
        let mut meter = Meter::new(self.vertex, digest, source.descriptor.size);
        let session = match self.find_or_mount(source, sibling).await? {
            Mounted::Done => {
                meter.complete();
                return Ok(());
            }
            Mounted::Session(session) => Some(session),
            Mounted::No => None,
        };
        self.upload(source, session, &mut meter).await?;
        meter.complete();
        Ok(())
    }

    /// Returns the blobs that the repository has not and that can't be mounted.
    pub(crate) async fn lacking(
        &self,
        sources: &[BlobSource],
        traffic: &Traffic,
    ) -> Result<Vec<Digest>> {
        let mut seen = HashSet::new();
        let distinct = sources.iter().filter(|s| seen.insert(s.descriptor.digest));
        let found: Vec<Option<Digest>> = stream::iter(distinct)
            .map(async |source| {
                let _slot = traffic.slot().await;
                let done = matches!(self.find_or_mount(source, None).await?, Mounted::Done);
                Ok::<_, Error>((!done).then_some(source.descriptor.digest))
            })
            .buffer_unordered(traffic.size())
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Tells whether the repository has a blob, and mounts it from a `sibling` or another one that is
    /// known to.
    async fn find_or_mount(&self, source: &BlobSource, sibling: Option<&str>) -> Result<Mounted> {
        let digest = &source.descriptor.digest;
        if self.retrying(async || self.has(digest).await).await? {
            return Ok(Mounted::Done);
        }
        let known = source
            .mount_from
            .iter()
            .find(|r| r.registry == self.endpoint.registry() && r.repository != self.name)
            .map(|r| r.repository.as_str());
        match sibling.or(known) {
            Some(from) => self.mount(digest, from).await,
            None => Ok(Mounted::No),
        }
    }

    /// Asks whether the registry has a blob. A redirect to its storage means yes.
    async fn has(&self, digest: &Digest) -> Result<bool, Failure> {
        let access = Access::push(self.name);
        let mut call = Call::new(Method::HEAD, self.url("blobs", &digest.to_string()));
        call.redirects = Redirects::Return;
        let response = self.endpoint.call(&access, &call).await?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(true);
        }
        let decisive = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if status.is_client_error() && !decisive.contains(&status) {
            return Ok(false);
        }
        Err(self.refuse_push(&access, response).await)
    }

    async fn refuse_push(&self, access: &Access, response: Response) -> Failure {
        let op = format!("push to `{}`", self.full_name());
        self.endpoint.refuse(access, response, op).await
    }

    /// Tries to mount a blob from another repository. That it can't be done is no error.
    async fn mount(&self, digest: &Digest, from: &str) -> Result<Mounted> {
        let access = Access {
            mount_from: Some(from.to_owned()),
            ..Access::push(self.name)
        };
        let mut url = self.url("blobs", "uploads/");
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        let call = Call::new(Method::POST, url.clone());
        self.retrying(async || {
            let response = match self.endpoint.call(&access, &call).await {
                Ok(response) => response,
                // A token for the other repository may be refused.
                Err(Failure::Final(e)) if e.get_kind() == Kind::Denied => return Ok(Mounted::No),
                Err(failure) => return Err(failure),
            };
            match response.status() {
                StatusCode::CREATED => Ok(Mounted::Done),
                StatusCode::ACCEPTED => Ok(match self.session(&url, &response) {
                    Some(session) => Mounted::Session(session),
                    None => Mounted::No,
                }),
                StatusCode::TOO_MANY_REQUESTS => Err(self.refuse_push(&access, response).await),
                status if status.is_client_error() => Ok(Mounted::No),
                _ => Err(self.refuse_push(&access, response).await),
            }
        })
        .await
    }

    fn session(&self, from: &Url, response: &Response) -> Option<Session> {
        Some(Session {
            location: self.endpoint.locate(from, response.headers())?,
            offset: 0,
            sure: true,
        })
    }

    async fn open_session(&self) -> Result<Session, Failure> {
        let access = Access::push(self.name);
        let url = self.url("blobs", "uploads/");
        let call = Call::new(Method::POST, url.clone());
        let response = self.endpoint.call(&access, &call).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refuse_push(&access, response).await);
        }
        self.session(&url, &response).ok_or_else(|| {
            Error::new(format!(
                "registry `{}` opened an upload without a location",
                self.endpoint.registry()
            ))
            .into()
        })
    }

    /// Asks how much of an interrupted upload the registry has; `None` when it has dropped it.
    async fn query(&self, session: &Session) -> Result<Option<Session>, Failure> {
        let access = Access::push(self.name);
        let mut call = Call::new(Method::GET, session.location.clone());
        call.redirects = Redirects::Return;
        let response = self.endpoint.call(&access, &call).await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED => Ok(Some(Session {
                location: self
                    .endpoint
                    .locate(&session.location, response.headers())
                    .unwrap_or_else(|| session.location.clone()),
                offset: received(response.headers()),
                sure: true,
            })),
            StatusCode::TOO_MANY_REQUESTS => Err(self.refuse_push(&access, response).await),
            status if status.is_client_error() => Ok(None),
            _ => Err(self.refuse_push(&access, response).await),
        }
    }

    async fn upload(
        &self,
        source: &BlobSource,
        mut session: Option<Session>,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let mut backoff = Backoff::new(self.policy);
        let mut chunk = None;
        let mut reached = 0;
        loop {
            match self.upload_rest(source, &mut session, chunk, meter).await {
                Ok(Sent::All) => return Ok(()),
                Ok(Sent::TooLarge) => {
                    chunk = Some(CHUNK);
                    session = None;
                }
                Err(failure) => {
                    let offset = session.as_ref().map_or(0, |s| s.offset);
                    if offset > reached {
                        reached = offset;
                        backoff.progressed();
                    }
                    let failure = failure.map(|e| {
                        let digest = source.descriptor.digest;
                        e.during(format!("push blob {digest} to `{}`", self.full_name()))
                    });
                    backoff.pause(failure, |text| self.note(text)).await?;
                }
            }
        }
    }

    /// Sends what the registry does not have yet: all of it in one request to begin with; in
    /// pieces after an interruption or where a request may not be so large.
    async fn upload_rest(
        &self,
        source: &BlobSource,
        state: &mut Option<Session>,
        chunk: Option<u64>,
        meter: &mut Meter<'_>,
    ) -> Result<Sent, Failure> {
        let (digest, size) = (&source.descriptor.digest, source.descriptor.size);
        let mut session = match state.clone() {
            Some(session) if session.sure => session,
            Some(session) => match self.query(&session).await? {
                Some(session) => session,
                // The answer to an upload that was complete may have been lost.
                None if self.has(digest).await? => return Ok(Sent::All),
                None => self.open_session().await?,
            },
            None => self.open_session().await?,
        };
        if session.offset > size {
            *state = None;
            return Err(Failure::transient(Error::new(
                "the registry has more of the blob than there is",
            )));
        }
        let at_once = session.offset == 0 && chunk.is_none();
        while at_once || session.offset < size {
            *state = Some(Session {
                sure: false,
                ..session.clone()
            });
            let end = size.min(session.offset.saturating_add(chunk.unwrap_or(u64::MAX)));
            let response = self
                .send_range(source, &session, end, at_once, meter)
                .await?;
            match response.status() {
                StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK if at_once => {
                    return self.check_stored(digest, &response);
                }
                StatusCode::ACCEPTED if !at_once => {
                    if let Some(next) = self.session(&session.location, &response) {
                        session.location = next.location;
                    }
                    session.offset = end;
                    *state = Some(session.clone());
                }
                StatusCode::PAYLOAD_TOO_LARGE if chunk.is_none() => return Ok(Sent::TooLarge),
                _ => return Err(self.refuse_upload(state, response).await),
            }
        }
        let access = Access::push(self.name);
        let mut call = Call::new(Method::PUT, with_digest(&session.location, digest));
        call.patience = FINISH;
        let response = self.endpoint.call(&access, &call).await?;
        if response.status().is_success() {
            self.check_stored(digest, &response)
        } else {
            Err(self.refuse_upload(state, response).await)
        }
    }

    /// A session that the registry has lost is begun anew; other refusals stand.
    async fn refuse_upload(&self, state: &mut Option<Session>, response: Response) -> Failure {
        let status = response.status();
        let access = Access::push(self.name);
        let failure = self.refuse_push(&access, response).await;
        if matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::GONE
        ) {
            *state = None;
            return Failure::transient(failure.into_error());
        }
        failure
    }

    fn check_stored(&self, digest: &Digest, response: &Response) -> Result<Sent, Failure> {
        match stated_digest(response.headers()) {
            Some(stated) if stated != *digest => Err(Error::new(format!(
                "digest mismatch: sent {digest}, registry `{}` stored {stated}",
                self.endpoint.registry()
            ))
            .into()),
            _ => Ok(Sent::All),
        }
    }

    /// Streams a part of a blob in one request: PUT for all of it, PATCH for a part.
    async fn send_range(
        &self,
        source: &BlobSource,
        session: &Session,
        end: u64,
        at_once: bool,
        meter: &mut Meter<'_>,
    ) -> Result<Response, Failure> {
        let start = session.offset;
        let number = |text: String| {
            HeaderValue::from_str(&text).expect("digits and a dash are valid in a header")
        };
        let mut headers = HeaderMap::new();
        let octets = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, octets);
        headers.insert(CONTENT_LENGTH, number((end - start).to_string()));
        let (method, url) = if at_once {
            let url = with_digest(&session.location, &source.descriptor.digest);
            (Method::PUT, url)
        } else {
            headers.insert(CONTENT_RANGE, number(format!("{start}-{}", end - 1)));
            (Method::PATCH, session.location.clone())
        };
        let sent = Arc::new(AtomicU64::new(0));
        let broken = Arc::new(Mutex::new(None));
        let body = stream_body(source, start..end, &sent, &broken);
        let access = Access::push(self.name);
        let reply = self.endpoint.stream(&access, method, &url, headers, body);
        let mut reply = pin!(reply);
        let mut seen = 0;
        let mut since = Instant::now();
        let answer = loop {
            tokio::select! {
                answer = &mut reply => break answer,
                () = tokio::time::sleep(LOOK) => {
                    let now = sent.load(Ordering::Relaxed);
                    meter.at(start + now);
                    if now != seen {
                        seen = now;
                        since = Instant::now();
                    }
                    let limit = if now == end - start { FINISH } else { SILENCE };
                    if since.elapsed() >= limit {
                        let seconds = limit.as_secs();
                        break Err(Failure::transient(Error::new(format!(
                            "registry `{}` took nothing for {seconds} s",
                            self.endpoint.registry()
                        ))));
                    }
                }
            }
        };
        // Our own side's trouble looks like a broken connection from the other end.
        let trouble = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        match trouble {
            Some(e) => Err(Error::new("read blob to push").source(e).into()),
            None => answer,
        }
    }

    /// Pushes the manifest under a tag or its digest.
    pub(crate) async fn put_manifest(&self, artifact: &Artifact, name: &str) -> Result<()> {
        let access = Access::push(self.name);
        let digest = Digest::of(&artifact.manifest);
        let kind = HeaderValue::from_str(&artifact.media_type)
            .map_err(|e| Error::new("invalid manifest media type").source(e))?;
        let mut call = Call::new(Method::PUT, self.url("manifests", name));
        call.headers.insert(CONTENT_TYPE, kind);
        call.body.clone_from(&artifact.manifest);
        self.retrying(async || {
            let response = self.endpoint.call(&access, &call).await?;
            if !response.status().is_success() {
                let separator = if name.contains(':') { '@' } else { ':' };
                let op = format!("push manifest to `{}{separator}{name}`", self.full_name());
                return Err(self.endpoint.refuse(&access, response, op).await);
            }
            self.check_stored(&digest, &response).map(|_| ())
        })
        .await
    }
}

/// Reads how much an upload session has: `Range: 0-9` after ten bytes. `0-0` is what registries
/// also say after none.
fn received(headers: &HeaderMap) -> u64 {
    let end = || {
        let text = headers.get(RANGE)?.to_str().ok()?;
        let text = text.strip_prefix("bytes=").unwrap_or(text);
        text.split_once('-')?.1.trim().parse::<u64>().ok()
    };
    match end() {
        None | Some(0) => 0,
        Some(last) => last.saturating_add(1),
    }
}

fn with_digest(location: &Url, digest: &Digest) -> Url {
    let mut url = location.clone();
    url.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_how_far_an_upload_is() {
        for (text, wanted) in [("0-9", 10), ("bytes=0-99", 100), ("0-0", 0), ("x", 0)] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static(text));
            assert_eq!(received(&headers), wanted, "{text}");
        }
        assert_eq!(received(&HeaderMap::new()), 0);
    }

    #[test]
    fn a_digest_joins_the_query_of_the_session() {
        let location = Url::parse("http://h/v2/a/blobs/uploads/1?_state=x%3D").expect("url");
        let digest = Digest::of(b"");
        assert_eq!(
            with_digest(&location, &digest).as_str(),
            format!(
                "http://h/v2/a/blobs/uploads/1?_state=x%3D&digest=sha256%3A{}",
                digest.hex()
            )
        );
    }
}
