//! HTTP as far as registries need it.
//!
//! Responsible for the connections' trust (verified TLS, unverified TLS, loopback), for time
//! limits, for bounded bodies, and for saying what went wrong in words. Must not know registries'
//! addresses or authentication. Invariant: no call waits without a limit, and no text that leaves
//! this module has a URL's query in it, since signed URLs are secrets.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response};
use url::Url;

use super::retry::Failure;
use crate::error::{Error, Result};

/// How long connecting may take, with name resolution and TLS.
const CONNECT: Duration = Duration::from_secs(20);

/// How long a peer may be silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// What is asked of a peer before it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A certificate that the system trusts.
    Verified,
    /// Nothing; the user said so.
    Unverified,
    /// Nothing, and no proxy stands between: the peer is on this machine.
    Loopback,
}

/// The HTTP clients, made when first needed: reading the system's certificates takes time.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    verified: OnceLock<Client>,
    unverified: OnceLock<Client>,
    loopback: OnceLock<Client>,
    /// Peers that have answered before: their silence may pass.
    answered: Mutex<HashSet<String>>,
}

impl Transport {
    fn client(&self, trust: Trust) -> Result<&Client> {
        let slot = match trust {
            Trust::Verified => &self.verified,
            Trust::Unverified => &self.unverified,
            Trust::Loopback => &self.loopback,
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("sandcrab/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true);
        if trust != Trust::Verified {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        if trust == Trust::Loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| {
            Error::new("prepare TLS")
                .source(innermost(&e).to_string())
                .hint("install the system's certificates (the package ca-certificates)")
        })?;
        Ok(slot.get_or_init(|| client))
    }

    /// Sends a request and waits for the head of the reply, at most `patience` long.
    pub(crate) async fn send(
        &self,
        trust: Trust,
        request: Request,
        patience: Duration,
    ) -> Result<Response, Failure> {
        let url = request.url().clone();
        match tokio::time::timeout(patience, self.send_watched(trust, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(silent(&url, patience)),
        }
    }

    /// Sends a request without a limit of its own; the caller watches over it.
    pub(crate) async fn send_watched(
        &self,
        trust: Trust,
        request: Request,
    ) -> Result<Response, Failure> {
        let url = request.url().clone();
        let sent = self.client(trust)?.execute(request).await;
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Ok(response) => {
                answered.insert(authority(&url));
                Ok(response)
            }
            Err(e) => Err(explain(&url, &e, answered.contains(&authority(&url)))),
        }
    }
}

/// Reads the next piece of a body, or `None` at its end.
pub(crate) async fn next_chunk(
    response: &mut Response,
) -> Result<Option<impl AsRef<[u8]> + Send + 'static>, Failure> {
    match tokio::time::timeout(SILENCE, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(e)) => Err(explain(response.url(), &e, true)),
        Err(_) => Err(silent(response.url(), SILENCE)),
    }
}

/// Reads a body of at most `limit` bytes; `None` when it is larger.
pub(crate) async fn read_body(
    response: &mut Response,
    limit: u64,
) -> Result<Option<Vec<u8>>, Failure> {
    if response.content_length().is_some_and(|n| n > limit) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = next_chunk(response).await? {
        let chunk = chunk.as_ref();
        if (body.len() + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        body.extend_from_slice(chunk);
    }
    Ok(Some(body))
}

/// Tells whether a registry's name (`host[:port]`) is an address of this machine.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = host_of(registry);
    host == "localhost"
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Returns a registry's name without its port.
pub(crate) fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    }
}

/// Returns `host[:port]` of a URL, for messages.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn silent(url: &Url, patience: Duration) -> Failure {
    let seconds = patience.as_secs();
    Failure::transient(Error::new(format!(
        "no answer from `{}` within {seconds} s",
        authority(url)
    )))
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner
}

/// Finds an operating-system error in the chain; a fresh one, as the original can't be taken.
fn system_error(error: &(dyn StdError + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(code) = io.raw_os_error()
        {
            return Some(io::Error::from_raw_os_error(code));
        }
        next = error.source();
    }
    None
}

/// Puts a failed exchange into words and decides whether it is worth another attempt. `answered`
/// tells whether the peer has been heard of before.
fn explain(url: &Url, error: &reqwest::Error, answered: bool) -> Failure {
    let peer = authority(url);
    let connect = |peer: &str| Error::new(format!("connect to `{peer}`"));
    if let Some(system) = system_error(error) {
        // Nothing listens: a wrong address, which waiting does not change.
        if system.kind() == io::ErrorKind::ConnectionRefused && !answered {
            return Failure::Final(connect(&peer).source(system));
        }
        return Failure::transient(if error.is_connect() {
            connect(&peer).source(system)
        } else {
            Error::new(format!("talk to `{peer}`")).source(system)
        });
    }
    if error.is_timeout() {
        return Failure::transient(connect(&peer).source("timed out"));
    }
    let text = innermost(error).to_string();
    if error.is_connect() {
        if text.contains("failed to lookup address") {
            let again = answered || text.contains("emporary");
            let error = Error::new(format!(
                "unknown host `{}`",
                url.host_str().unwrap_or_default()
            ))
            .source(text.rsplit(": ").next().unwrap_or_default().to_owned());
            return if again {
                Failure::transient(error)
            } else {
                Failure::Final(error)
            };
        }
        if text.contains("certificate") || text.contains("UnknownIssuer") {
            return Failure::Final(connect(&peer).source(format!("TLS: {text}")).hint(format!(
                "name the certificate authority's file in SSL_CERT_FILE, or accept any \
                         certificate with --insecure-registry {peer}"
            )));
        }
        if text.contains("InvalidContentType") || text.contains("corrupt message") {
            return Failure::Final(
                connect(&peer)
                    .source("it does not speak TLS")
                    .hint(format!("allow plain HTTP with --insecure-registry {peer}")),
            );
        }
        return Failure::transient(connect(&peer).source(text));
    }
    Failure::transient(Error::new(format!("talk to `{peer}`")).source(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_machine() {
        for name in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.9.1",
            "[::1]:5000",
            "[::1]",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "docker.io",
            "128.0.0.1",
            "localhost.example.org",
            "127.0.0.1.nip.io",
            "[::2]:5000",
            "10.0.0.1:5000",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
