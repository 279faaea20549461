//! Registries: the async island behind a blocking face.
//!
//! Responsible for pulling images into the store, pushing them, and checking logins
//! (OCI distribution-spec 1.1, Docker Registry HTTP API V2). Must not know Dockerfiles, builds or
//! how progress is drawn. Invariants: nothing async leaves this module; no credential is read and
//! no thread is started before the first call that needs it; memory is bounded whatever a registry
//! sends.

mod auth;
mod challenge;
mod client;
pub mod credentials;
mod endpoint;
mod reply;
mod retry;
mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transfer;
mod transport;
mod upload;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

pub use retry::RetryPolicy;
pub use source::{Artifact, BlobSource, OpenAt};

use self::auth::{Access, Identity};
use self::client::Repository;
use self::credentials::{Credential, CredentialSources, Found, Keychain};
use self::endpoint::{Call, Endpoint};
use self::retry::{Backoff, Failure};
use self::transfer::Traffic;
use self::transport::Transport;
use crate::cancel::Cancel;
use crate::error::{Error, Result, ResultExt};
use crate::image::config::ImageConfig;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::progress::event::{Stream, Vertex};
use crate::store::blobs::Blobs;

/// How to behave towards registries.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Where credentials are.
    pub credentials: CredentialSources,
    /// Registries (`host` or `host:port`) that may have any certificate or none.
    pub insecure: Vec<String>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Blobs that are transferred at a time.
    pub parallel: u32,
    /// The largest manifest, index or config that is read, in bytes.
    pub document_limit: u64,
    /// Ends all calls when raised.
    pub cancel: Cancel,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            credentials: CredentialSources::default(),
            insecure: Vec::new(),
            retry: RetryPolicy::default(),
            parallel: 4,
            document_limit: 4 << 20,
            cancel: Cancel::default(),
        }
    }
}

/// An image whose manifest and config are known and in the store; its layers may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What was asked for.
    pub reference: Reference,
    /// The image's manifest: digest, size, media type.
    pub descriptor: Descriptor,
    /// Digest of the index that the manifest was chosen from; its bytes are in the store.
    pub index: Option<Digest>,
    /// The manifest, parsed.
    pub manifest: Manifest,
    /// The manifest as the registry has it.
    pub manifest_bytes: Vec<u8>,
    /// The config, parsed.
    pub config: ImageConfig,
    /// The config as the registry has it; its digest is the image's id.
    pub config_bytes: Vec<u8>,
}

impl Resolved {
    /// Returns the references by which the registry will always know this image: by its own
    /// digest, and by that of the index it was chosen from.
    pub fn origins(&self) -> Vec<Reference> {
        let pinned = |digest| Reference {
            tag: None,
            digest: Some(digest),
            ..self.reference.clone()
        };
        let digests = std::iter::once(self.descriptor.digest).chain(self.index);
        digests.map(pinned).collect()
    }
}

/// All registries; usable from several threads.
pub struct Registry {
    options: RegistryOptions,
    keychain: Arc<Keychain>,
    transport: Arc<Transport>,
    traffic: Traffic,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    runtime: OnceLock<Runtime>,
}

impl Registry {
    /// Takes the options; does nothing else.
    pub fn new(options: RegistryOptions) -> Self {
        Self {
            keychain: Arc::new(Keychain::new(options.credentials.clone())),
            transport: Arc::default(),
            traffic: Traffic::new(options.parallel),
            endpoints: Mutex::default(),
            runtime: OnceLock::new(),
            options,
        }
    }

    /// Finds the image that a reference and a platform mean, and leaves its manifest, its config
    /// and the index they were chosen from in `blobs`.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when there is none, or none for the
    /// platform; [`Kind::Denied`](crate::error::Kind::Denied) when the registry wants (other)
    /// credentials.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
        vertex: &Vertex,
    ) -> Result<Resolved> {
        self.run(async {
            let endpoint = self.endpoint(&reference.registry, vertex).await?;
            let repository = self.repository(&endpoint, &reference.repository, vertex);
            repository.resolve(reference, platform, blobs).await
        })
    }

    /// Fetches those of an image's layers that `blobs` does not have, verbatim.
    pub fn fetch_layers(&self, image: &Resolved, blobs: &Blobs, vertex: &Vertex) -> Result<()> {
        self.fetch_some(&image.reference, &image.manifest.layers, blobs, vertex)
    }

    /// Fetches some layers of the repository that `from` names.
    pub fn fetch_some(
        &self,
        from: &Reference,
        layers: &[Descriptor],
        blobs: &Blobs,
        vertex: &Vertex,
    ) -> Result<()> {
        let here = |l: &Descriptor| blobs.size(&l.digest) == Some(l.size);
        if layers.iter().all(here) {
            return Ok(());
        }
        self.run(async {
            let endpoint = self.endpoint(&from.registry, vertex).await?;
            let repository = self.repository(&endpoint, &from.repository, vertex);
            repository.fetch_layers(layers, blobs, &self.traffic).await
        })
    }

    /// Reads the manifest that a reference means, or those of an index, each with the document that it
    /// calls its config; all are left in `blobs`.
    pub fn documents(
        &self,
        reference: &Reference,
        blobs: &Blobs,
        vertex: &Vertex,
    ) -> Result<Vec<(Manifest, Vec<u8>)>> {
        self.run(async {
            let endpoint = self.endpoint(&reference.registry, vertex).await?;
            let repository = self.repository(&endpoint, &reference.repository, vertex);
            repository.documents(reference, blobs).await
        })
    }

    /// Returns those blobs that the repository of `to` lacks and could not be given by mounting.
    pub fn lacking(
        &self,
        to: &Reference,
        blobs: &[BlobSource],
        vertex: &Vertex,
    ) -> Result<Vec<Digest>> {
        self.run(async {
            let endpoint = self.endpoint(&to.registry, vertex).await?;
            let repository = self.repository(&endpoint, &to.repository, vertex);
            repository.lacking(blobs, &self.traffic).await
        })
    }

    /// Sends one blob to the repository of a reference, unless it is there or can be mounted.
    pub fn send(&self, to: &Reference, blob: &BlobSource, vertex: &Vertex) -> Result<()> {
        self.run(async {
            let endpoint = self.endpoint(&to.registry, vertex).await?;
            let repository = self.repository(&endpoint, &to.repository, vertex);
            let blobs = std::slice::from_ref(blob);
            repository.push_blobs(blobs, None, &self.traffic).await
        })
    }

    /// Resolves an image and fetches all its layers.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        blobs: &Blobs,
        vertex: &Vertex,
    ) -> Result<Resolved> {
        let image = self.resolve(reference, platform, blobs, vertex)?;
        self.fetch_layers(&image, blobs, vertex)?;
        Ok(image)
    }

    /// Pushes an image under all `references`: its blobs once for each repository, then the
    /// manifest for each tag. Returns the manifest's digest.
    pub fn push(
        &self,
        references: &[Reference],
        artifact: &Artifact,
        vertex: &Vertex,
    ) -> Result<Digest> {
        let digest = Digest::of(&artifact.manifest);
        if let Some(other) = references
            .iter()
            .find(|r| r.digest.is_some_and(|d| d != digest))
        {
            return Err(Error::new(format!(
                "push to `{other}`: the image's digest is {digest}"
            )));
        }
        let mut repositories: Vec<(&Reference, Vec<String>)> = Vec::new();
        for reference in references {
            let name = match &reference.tag {
                Some(tag) => tag.clone(),
                None => digest.to_string(),
            };
            match repositories
                .iter_mut()
                .find(|(r, _)| r.name() == reference.name())
            {
                Some((_, names)) => names.push(name),
                None => repositories.push((reference, vec![name])),
            }
        }
        self.run(async {
            for (i, (reference, names)) in repositories.iter().enumerate() {
                let sibling = repositories[..i]
                    .iter()
                    .find(|(r, _)| r.registry == reference.registry)
                    .map(|(r, _)| r.repository.as_str());
                let endpoint = self.endpoint(&reference.registry, vertex).await?;
                let repository = self.repository(&endpoint, &reference.repository, vertex);
                repository
                    .push_blobs(&artifact.blobs, sibling, &self.traffic)
                    .await?;
                for name in names {
                    let id = format!("manifest for {}:{name}", reference.name());
                    let size = artifact.manifest.len() as u64;
                    vertex.status(&id, 0, Some(size), false);
                    repository.put_manifest(artifact, name).await?;
                    vertex.status(&id, size, Some(size), true);
                }
            }
            Ok(digest)
        })
    }

    /// Asks a registry whether it accepts a credential.
    ///
    /// # Errors
    /// [`Kind::Denied`](crate::error::Kind::Denied) when it does not.
    pub fn check_login(&self, registry: &str, credential: Credential) -> Result<()> {
        let found = Arc::new(Found {
            credential: Some(credential),
            origin: "the command line".to_owned(),
            notes: Vec::new(),
        });
        self.run(async {
            let mut backoff = Backoff::new(&self.options.retry);
            loop {
                match self.try_login(registry, Arc::clone(&found)).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => backoff.pause(failure, |_| ()).await?,
                }
            }
        })
    }

    async fn try_login(&self, registry: &str, found: Arc<Found>) -> Result<(), Failure> {
        let endpoint = Endpoint::connect(
            registry,
            &self.options.insecure,
            Arc::clone(&self.transport),
            Identity::Given(found),
        )
        .await?;
        let access = Access::default();
        let call = Call::new(Method::GET, endpoint.url("v2/"));
        let response = endpoint.call(&access, &call).await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => {
                let op = format!("log in to `{registry}`");
                Err(endpoint.refuse(&access, response, op).await)
            }
        }
    }

    fn repository<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        name: &'a str,
        vertex: &'a Vertex,
    ) -> Repository<'a> {
        Repository {
            endpoint,
            name,
            policy: &self.options.retry,
            vertex,
            document_limit: self.options.document_limit,
        }
    }

    async fn endpoint(&self, registry: &str, vertex: &Vertex) -> Result<Arc<Endpoint>> {
        let endpoints = || {
            self.endpoints
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(endpoint) = endpoints().get(registry) {
            return Ok(Arc::clone(endpoint));
        }
        let mut backoff = Backoff::new(&self.options.retry);
        let endpoint = loop {
            let connected = Endpoint::connect(
                registry,
                &self.options.insecure,
                Arc::clone(&self.transport),
                Identity::Keychain(Arc::clone(&self.keychain)),
            );
            match connected.await {
                Ok(endpoint) => break Arc::new(endpoint),
                Err(failure) => {
                    let note = |text: &str| vertex.log(Stream::Stderr, text.as_bytes());
                    backoff.pause(failure, note).await?;
                }
            }
        };
        // Another thread may have been quicker; its endpoint has the tokens.
        let mut endpoints = endpoints();
        let kept = endpoints.entry(registry.to_owned()).or_insert(endpoint);
        Ok(Arc::clone(kept))
    }

    /// Drives a call to its end or to the cancellation, after which no file is left open.
    fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let cancel = &self.options.cancel;
        cancel.check()?;
        let runtime = self.runtime()?;
        let raised = Arc::new(Notify::new());
        let teller = Arc::clone(&raised);
        let _registration = cancel.on_raise(move || teller.notify_one());
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = raised.notified() => {}
                outcome = work => return outcome,
            }
            self.traffic.settle().await;
            let raised = Err(Error::new("interrupted"));
            cancel.check().and(raised)
        })
    }

    fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("registry")
            .enable_all()
            .build()
            .op("start the network threads")?;
        Ok(self.runtime.get_or_init(|| runtime))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name look-up that hangs must not hold the program up.
            runtime.shutdown_timeout(Duration::from_millis(200));
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
