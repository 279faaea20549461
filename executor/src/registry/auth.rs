//! Authentication to one registry.
//!
//! Responsible for answering challenges (distribution-spec's token authentication, and basic),
//! for tokens and their expiry. Must not know what the requests are for beyond [`Access`].
//! Invariant: a credential is shown to the registry it is filed under and to the token service
//! that this registry names over an equally protected connection, and to nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::challenge::Challenge;
use super::credentials::{Credential, Found, Keychain};
use super::reply::{Asker, denied, refusal};
use super::retry::Failure;
use super::transport::{SILENCE, Transport, Trust, host_of, is_loopback, read_body};
use crate::error::{Error, Kind, Result};

/// Lifetime of a token whose reply does not tell (distribution-spec).
const DEFAULT_LIFETIME: u64 = 60;

/// A token is renewed this long before its end, so that it does not end on the way.
const MARGIN: Duration = Duration::from_secs(15);

/// The largest reply of a token service that is read, in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;

const CLIENT_ID: &str = "sandcrab";

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// The repository; empty for the registry itself.
    pub(crate) repository: String,
    /// Whether it is written to.
    pub(crate) push: bool,
    /// A repository of the same registry that is read from in the same request.
    pub(crate) mount_from: Option<String>,
}

impl Access {
    pub(crate) fn pull(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn push(repository: &str) -> Self {
        Self {
            push: true,
            ..Self::pull(repository)
        }
    }

    /// Returns the scopes as token services understand them.
    fn scopes(&self) -> Vec<String> {
        let mut scopes = Vec::new();
        if !self.repository.is_empty() {
            let actions = if self.push { "pull,push" } else { "pull" };
            scopes.push(format!("repository:{}:{actions}", self.repository));
        }
        if let Some(from) = &self.mount_from {
            scopes.push(format!("repository:{from}:pull"));
        }
        scopes
    }
}

/// How the registry wants to be shown credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Clone)]
struct Token {
    value: HeaderValue,
    ends: Instant,
}

#[derive(Default)]
struct State {
    scheme: Option<Scheme>,
    tokens: HashMap<Vec<String>, Token>,
}

/// Where credentials are from.
#[derive(Debug)]
pub(crate) enum Identity {
    /// Looked up by repository.
    Keychain(Arc<Keychain>),
    /// Given; for checking a login.
    Given(Arc<Found>),
}

/// The connection that credentials would travel over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) base: &'a Url,
    pub(crate) trust: Trust,
}

/// The state of authentication to one registry.
pub(crate) struct Authenticator {
    registry: String,
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Authenticator {
    pub(crate) fn new(registry: &str, identity: Identity) -> Self {
        Self {
            registry: registry.to_owned(),
            identity,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the credential for an access; runs a helper program aside where one is asked.
    pub(crate) async fn found(&self, access: &Access) -> Result<Arc<Found>> {
        match &self.identity {
            Identity::Given(found) => Ok(Arc::clone(found)),
            Identity::Keychain(keychain) => {
                let keychain = Arc::clone(keychain);
                let registry = self.registry.clone();
                let repository = access.repository.clone();
                tokio::task::spawn_blocking(move || keychain.lookup(&registry, &repository))
                    .await
                    .map_err(|e| {
                        Error::new("look up credentials")
                            .source(e)
                            .kind(Kind::Internal)
                    })?
            }
        }
    }

    /// Returns what to send along with a request, as far as the registry has told what it wants.
    pub(crate) async fn prepare(
        &self,
        access: &Access,
        channel: Channel<'_>,
    ) -> Result<Option<HeaderValue>, Failure> {
        let scheme = self.state().scheme.clone();
        match scheme {
            None => Ok(None),
            Some(scheme) => self.authorize(&scheme, access, channel).await,
        }
    }

    /// Learns from a challenge what the registry wants.
    pub(crate) fn learn(&self, challenges: &[Challenge]) {
        let bearer = challenges.iter().find_map(|c| {
            (c.scheme == "bearer").then_some(())?;
            Some(Scheme::Bearer {
                realm: c.param("realm")?.to_owned(),
                service: c.param("service").map(ToOwned::to_owned),
            })
        });
        let basic = || {
            let offered = challenges.iter().any(|c| c.scheme == "basic");
            offered.then_some(Scheme::Basic)
        };
        if let Some(scheme) = bearer.or_else(basic) {
            self.state().scheme = Some(scheme);
        }
    }

    /// Answers a 401: what to send instead of `refused`, or `None` when there is nothing better.
    pub(crate) async fn respond(
        &self,
        challenges: &[Challenge],
        access: &Access,
        refused: Option<&HeaderValue>,
        channel: Channel<'_>,
    ) -> Result<Option<HeaderValue>, Failure> {
        self.learn(challenges);
        let scheme = {
            let mut state = self.state();
            // Revoked or expired early.
            state
                .tokens
                .retain(|_, token| Some(&token.value) != refused);
            state.scheme.clone()
        };
        let Some(scheme) = scheme else {
            return Ok(None);
        };
        let answer = self.authorize(&scheme, access, channel).await?;
        Ok(answer.filter(|a| Some(a) != refused))
    }

    async fn authorize(
        &self,
        scheme: &Scheme,
        access: &Access,
        channel: Channel<'_>,
    ) -> Result<Option<HeaderValue>, Failure> {
        let found = self.found(access).await?;
        if let Some(Credential::RegistryToken(token)) = &found.credential {
            return Ok(Some(secret_header(&format!("Bearer {}", token.expose()))?));
        }
        match scheme {
            Scheme::Basic => match &found.credential {
                Some(Credential::Password { username, password }) => {
                    Ok(Some(basic(username, password.expose())?))
                }
                _ => Ok(None),
            },
            Scheme::Bearer { realm, service } => {
                let scopes = access.scopes();
                let now = Instant::now();
                let cached = self.state().tokens.get(&scopes).cloned();
                if let Some(token) = cached.filter(|t| t.ends > now) {
                    return Ok(Some(token.value));
                }
                let service = service.as_deref();
                let token = self.fetch(realm, service, &scopes, &found, channel).await?;
                let value = token.value.clone();
                self.state().tokens.insert(scopes, token);
                Ok(Some(value))
            }
        }
    }

    /// Gets a token: by GET (distribution-spec, "Token Authentication"), or with a refresh token
    /// by POST ("OAuth2 Token Authentication").
    async fn fetch(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        found: &Found,
        channel: Channel<'_>,
    ) -> Result<Token, Failure> {
        let registry = &self.registry;
        let mut url = Url::parse(realm)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .ok_or_else(|| {
                Error::new(format!(
                    "registry `{registry}` names an invalid token service `{}`",
                    realm.chars().take(200).collect::<String>().escape_debug()
                ))
            })?;
        if url.scheme() == "http" && channel.base.scheme() == "https" && found.credential.is_some()
        {
            return Err(Error::new(format!(
                "registry `{registry}` wants credentials sent over plain HTTP to `{}`",
                url.host_str().unwrap_or_default()
            ))
            .kind(Kind::Denied)
            .into());
        }
        let mut headers = HeaderMap::new();
        let (method, body) = if let Some(Credential::IdentityToken(token)) = &found.credential {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", CLIENT_ID)
                .append_pair("refresh_token", token.expose());
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            form.append_pair("scope", &scopes.join(" "));
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form_type);
            (Method::POST, Some(form.finish()))
        } else {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
            query.append_pair("client_id", CLIENT_ID);
            if let Some(Credential::Password { username, password }) = &found.credential {
                query.append_pair("account", username);
                headers.insert(AUTHORIZATION, basic(username, password.expose())?);
            }
            drop(query);
            (Method::GET, None)
        };
        let trust = trust_of(&url, channel);
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = body.map(Into::into);
        let mut response = channel.transport.send(trust, request, SILENCE).await?;
        if !response.status().is_success() {
            let op = format!("get a token for registry `{registry}`");
            let status = response.status().as_u16();
            let failure = refusal(response, op, &self.asker(found)).await;
            // Some services answer wrong passwords with 400.
            return Err(if status == 400 && found.credential.is_some() {
                failure.map(|e| denied(e, &self.asker(found)))
            } else {
                failure
            });
        }
        let unusable = || Error::new(format!("the token service of `{registry}` sent no token"));
        let body = read_body(&mut response, TOKEN_LIMIT)
            .await?
            .ok_or_else(unusable)?;
        let reply: TokenReply = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let token = [reply.token, reply.access_token]
            .into_iter()
            .flatten()
            .find(|t| !t.is_empty())
            .ok_or_else(unusable)?;
        let lifetime = match reply.expires_in {
            Some(seconds) if seconds >= 1.0 => Duration::from_secs(seconds.min(86_400.0) as u64),
            _ => Duration::from_secs(DEFAULT_LIFETIME),
        };
        Ok(Token {
            value: secret_header(&format!("Bearer {token}"))?,
            ends: Instant::now() + lifetime.saturating_sub(MARGIN.min(lifetime / 4)),
        })
    }

    pub(crate) fn asker<'a>(&'a self, found: &'a Found) -> Asker<'a> {
        Asker {
            registry: &self.registry,
            origin: found.credential.as_ref().map(|_| found.origin.as_str()),
            notes: &found.notes,
            redirected: false,
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// Decides how to trust an address that a registry points to: as the registry when it is the
/// registry's own host, or both are on this machine.
pub(crate) fn trust_of(url: &Url, channel: Channel<'_>) -> Trust {
    let host = url.host_str().unwrap_or_default();
    if Some(host) == channel.base.host_str() {
        channel.trust
    } else if channel.trust == Trust::Loopback && is_loopback(host_of(host)) {
        Trust::Loopback
    } else {
        Trust::Verified
    }
}

fn basic(username: &str, password: &str) -> Result<HeaderValue> {
    secret_header(&format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    ))
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::new("the token has characters that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_what_is_needed() {
        assert_eq!(Access::pull("a/b").scopes(), ["repository:a/b:pull"]);
        let mount = Access {
            mount_from: Some("base".into()),
            ..Access::push("a/b")
        };
        assert_eq!(
            mount.scopes(),
            ["repository:a/b:pull,push", "repository:base:pull"]
        );
        assert!(Access::default().scopes().is_empty());
    }
}
