//! One registry, spoken to with authentication.
//!
//! Responsible for a registry's address, for finding out whether an insecure one speaks TLS, for
//! following redirects, and for the answer to a 401. Must not know what is transferred.
//! Invariant: the `Authorization` header is sent to the registry's own origin only.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Body, Method, Request, Response, StatusCode};
use url::Url;

use super::auth::{Access, Authenticator, Channel, Identity, trust_of};
use super::challenge::challenges;
use super::reply::refusal;
use super::retry::Failure;
use super::transport::{SILENCE, Transport, Trust, authority, host_of, is_loopback};
use crate::error::{Error, Result};

/// How long a registry that may be insecure has to answer a TLS handshake.
const PROBE: Duration = Duration::from_secs(5);

/// How many redirects are followed.
const REDIRECTS: u32 = 5;

/// Whether redirects are followed or returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirects {
    Follow,
    Return,
}

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) redirects: Redirects,
    pub(crate) patience: Duration,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
            redirects: Redirects::Follow,
            patience: SILENCE,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// A registry.
#[derive(Debug)]
pub(crate) struct Endpoint {
    registry: String,
    base: Url,
    trust: Trust,
    transport: Arc<Transport>,
    auth: Authenticator,
}

/// Tells whether a registry is on the list of those that may be insecure; an entry without a
/// port stands for all ports.
fn is_listed(registry: &str, insecure: &[String]) -> bool {
    insecure
        .iter()
        .any(|entry| entry == registry || entry == host_of(registry))
}

impl Endpoint {
    /// Finds out how to speak to a registry. Only those on this machine or in `insecure` are
    /// contacted: over TLS with any certificate, and if that does not work over plain HTTP.
    pub(crate) async fn connect(
        registry: &str,
        insecure: &[String],
        transport: Arc<Transport>,
        identity: Identity,
    ) -> Result<Self, Failure> {
        let host = match registry {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let address = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/"))
                .map_err(|e| Error::new(format!("invalid registry name `{registry}`")).source(e))
        };
        let trust = if is_loopback(registry) {
            Trust::Loopback
        } else if is_listed(registry, insecure) {
            Trust::Unverified
        } else {
            Trust::Verified
        };
        let mut endpoint = Self {
            registry: registry.to_owned(),
            base: address("https")?,
            trust,
            transport,
            auth: Authenticator::new(registry, identity),
        };
        if trust != Trust::Verified && endpoint.probe(PROBE).await.is_err() {
            endpoint.base = address("http")?;
            endpoint.probe(SILENCE).await?;
        }
        Ok(endpoint)
    }

    async fn probe(&self, patience: Duration) -> Result<(), Failure> {
        let request = Request::new(Method::GET, self.url("v2/"));
        let response = self.transport.send(self.trust, request, patience).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.auth.learn(&challenges(response.headers()));
        }
        Ok(())
    }

    /// Returns the registry's name as in references.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the address of a path below the registry's root.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// Resolves a `Location`. A registry behind a proxy that ends TLS may write `http` where it
    /// means itself.
    pub(crate) fn locate(&self, from: &Url, headers: &HeaderMap) -> Option<Url> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        let mut url = from.join(location).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        if url.scheme() == "http"
            && self.base.scheme() == "https"
            && url.host() == self.base.host()
            && (url.port().is_none() || url.port() == self.base.port())
        {
            url.set_scheme("https").ok()?;
        }
        Some(url)
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    fn channel(&self) -> Channel<'_> {
        Channel {
            transport: &self.transport,
            base: &self.base,
            trust: self.trust,
        }
    }

    /// Sends a request, answers a challenge, and returns the reply whatever its status.
    pub(crate) async fn call(&self, access: &Access, call: &Call) -> Result<Response, Failure> {
        let authorization = self.auth.prepare(access, self.channel()).await?;
        let response = self.transmit(call, authorization.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(response.url()) {
            return Ok(response);
        }
        let wanted = challenges(response.headers());
        let answer = self
            .auth
            .respond(&wanted, access, authorization.as_ref(), self.channel())
            .await?;
        match answer {
            Some(answer) => self.transmit(call, Some(&answer)).await,
            None => Ok(response),
        }
    }

    async fn transmit(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = Request::new(call.method.clone(), url.clone());
            *request.headers_mut() = call.headers.clone();
            if !call.body.is_empty() {
                *request.body_mut() = Some(Body::from(call.body.clone()));
            } else if !matches!(call.method, Method::GET | Method::HEAD) {
                // Some servers answer 411 to a POST that says nothing about its length.
                let none = HeaderValue::from_static("0");
                request.headers_mut().insert(CONTENT_LENGTH, none);
            }
            if let Some(authorization) = authorization.filter(|_| self.is_own(&url)) {
                request
                    .headers_mut()
                    .insert(AUTHORIZATION, authorization.clone());
            }
            let trust = trust_of(&url, self.channel());
            let response = self.transport.send(trust, request, call.patience).await?;
            let reading = matches!(call.method, Method::GET | Method::HEAD);
            if call.redirects == Redirects::Return
                || !reading
                || !response.status().is_redirection()
            {
                return Ok(response);
            }
            let next = self
                .locate(&url, response.headers())
                .ok_or_else(|| Error::new(format!("`{}` redirects to nowhere", authority(&url))))?;
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(Error::new(format!(
                    "`{}` redirects from HTTPS to plain HTTP on `{}`",
                    authority(&url),
                    authority(&next)
                ))
                .into());
            }
            url = next;
        }
        Err(Error::new(format!(
            "registry `{}` redirects more than {REDIRECTS} times",
            self.registry
        ))
        .into())
    }

    /// Sends a body that can't be sent again; the caller limits the time. A 401 makes the failure
    /// transient, as the next attempt has a fresh token.
    pub(crate) async fn stream(
        &self,
        access: &Access,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, Failure> {
        let authorization = self.auth.prepare(access, self.channel()).await?;
        let mut request = Request::new(method, url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        if let Some(authorization) = authorization.clone().filter(|_| self.is_own(url)) {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let trust = trust_of(url, self.channel());
        let response = self.transport.send_watched(trust, request).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.is_own(url) {
            let wanted = challenges(response.headers());
            let answer = self
                .auth
                .respond(&wanted, access, authorization.as_ref(), self.channel())
                .await?;
            if answer.is_some() {
                return Err(Failure::transient(Error::new(format!(
                    "registry `{}` asks for authentication again",
                    self.registry
                ))));
            }
        }
        Ok(response)
    }

    /// Describes a reply whose status is not what was hoped for.
    pub(crate) async fn refuse(&self, access: &Access, response: Response, op: String) -> Failure {
        let redirected = !self.is_own(response.url());
        match self.auth.found(access).await {
            Ok(found) => {
                let mut asker = self.auth.asker(&found);
                asker.redirected = redirected;
                refusal(response, op, &asker).await
            }
            Err(error) => Failure::Final(error.during(op)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_port_stands_for_all() {
        let list = ["a.example".to_owned(), "b.example:5000".to_owned()];
        assert!(is_listed("a.example", &list));
        assert!(is_listed("a.example:5000", &list));
        assert!(is_listed("b.example:5000", &list));
        assert!(!is_listed("b.example", &list));
        assert!(!is_listed("xa.example", &list));
    }
}
