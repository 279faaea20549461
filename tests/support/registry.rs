//! A registry on this machine.
//!
//! Responsible for running `docker-registry` on a loopback port with its own storage, and for the
//! base images in it. Must not know what is tested with it.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::base::{Base, config};
use crate::layer::write_layout;
use crate::process::find;
use crate::scratch;

/// The account of [`Registry::with_password`].
pub const LOGIN: (&str, &str) = ("crab", "crab-pw");

/// `crab-pw`, as bcrypt writes it; the registry knows no other form.
const HTPASSWD: &str = "crab:$2b$04$eAwoblmxTzzAfpmiu.ett.w9CAibHCq.1s25GTLkUfIcM5E6lDMA2\n";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    storage: PathBuf,
    log: PathBuf,
    bases: Mutex<HashMap<Base, Result<String, String>>>,
}

impl Registry {
    /// Returns the registry that all tests share, or why there is none.
    ///
    /// # Errors
    /// The reason, for a skipped test.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Registry, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start("shared", ""))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Starts a registry of one's own, for a test that damages it.
    ///
    /// # Errors
    /// The reason why it can't be had, for a skipped test.
    pub fn private(name: &str) -> Result<Self, String> {
        Self::start(name, "")
    }

    /// Starts a registry that wants [`LOGIN`] for everything.
    ///
    /// # Errors
    /// The reason why it can't be had, for a skipped test.
    pub fn with_password(name: &str) -> Result<Self, String> {
        let file = scratch::directory().join(format!("htpasswd-{name}"));
        std::fs::write(&file, HTPASSWD).expect("write a file");
        let auth = format!(
            "auth:\n  htpasswd:\n    realm: fixture\n    path: {}\n",
            file.display()
        );
        Self::start(name, &auth)
    }

    fn start(name: &str, auth: &str) -> Result<Self, String> {
        let program = find("docker-registry").ok_or("no docker-registry")?;
        let directory = scratch::directory().join(format!("registry-{name}"));
        std::fs::create_dir_all(&directory).expect("make a directory");
        let storage = directory.join("data");
        let config = directory.join("config.yml");
        let log = std::fs::File::create(directory.join("log")).expect("make a log");
        // Between finding a free port and using it, another program may take it.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a loopback port")
                .port();
            let text = format!(
                "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
                 delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
                storage.display()
            );
            std::fs::write(&config, text).expect("write the configuration");
            let mut child = Command::new(&program)
                .arg("serve")
                .arg(&config)
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                // Without this it asks a collector for traces at every request.
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("share the log"))
                .stderr(log.try_clone().expect("share the log"))
                .spawn()
                .map_err(|error| format!("docker-registry: {error}"))?;
            scratch::end_with_us(child.id());
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && child.try_wait().expect("wait").is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Ok(Self {
                        port,
                        storage,
                        log: directory.join("log"),
                        bases: Mutex::default(),
                    });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(child.kill());
            drop(child.wait());
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        panic!("docker-registry does not start:\n{log}");
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the file of a blob, for a test that damages it.
    pub fn blob(&self, hex: &str) -> PathBuf {
        self.storage
            .join("docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// Returns what was asked for so far, in order, as its own log tells: `GET /v2/…`.
    ///
    /// # Panics
    /// When the log can't be read.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).expect("read the log");
        // `127.0.0.1 - - [date] "GET /v2/ HTTP/1.1" 200 2 "" "sandcrab"`
        let lines = log.lines().filter_map(|line| line.split('"').nth(1));
        let requests = lines.filter_map(|request| request.strip_suffix(" HTTP/1.1"));
        requests.map(ToOwned::to_owned).collect()
    }

    /// Returns the digests of the blobs that were sent out since there were `before` requests.
    pub fn fetched(&self, before: usize) -> Vec<String> {
        let requests = self.requests().into_iter().skip(before);
        let blobs = requests.filter(|request| request.starts_with("GET "));
        blobs
            .filter_map(|request| Some(request.split_once("/blobs/")?.1.to_owned()))
            .collect()
    }

    /// Returns the digests of the layers of an image, bottom first, as its manifest names them.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn layers(&self, repository: &str, tag: &str) -> Vec<String> {
        let manifest = self.manifest(repository, tag);
        let layers = manifest["layers"].as_array().expect("a manifest").iter();
        layers
            .map(|layer| layer["digest"].as_str().expect("a digest").to_owned())
            .collect()
    }

    /// Returns the manifest that a tag leads to.
    ///
    /// # Panics
    /// When there is none.
    pub fn manifest(&self, repository: &str, tag: &str) -> serde_json::Value {
        let place = format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}");
        let link = self.storage.join(place).join("current/link");
        let digest = std::fs::read_to_string(link).expect("a tag");
        let hex = digest.trim().trim_start_matches("sha256:");
        let bytes = std::fs::read(self.blob(hex)).expect("a manifest");
        serde_json::from_slice(&bytes).expect("a document")
    }

    /// Returns the directory with everything in the registry.
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// Returns the reference of a base image, pushing it before its first use.
    ///
    /// # Errors
    /// The reason why it can't be had, for a skipped test.
    pub fn base(&self, base: Base) -> Result<String, String> {
        let mut bases = self.bases.lock().expect("nobody panics with it");
        bases.entry(base).or_insert_with(|| self.push(base)).clone()
    }

    /// Pushes an image of these tar archives, bottom first, and returns its reference.
    ///
    /// # Errors
    /// The reason why it can't be done.
    pub fn image(&self, name: &str, layers: &[Vec<u8>]) -> Result<String, String> {
        let directory = scratch::directory().join("layout").join(name);
        write_layout(&directory, layers, &config());
        let source = format!("oci:{}:fixture", directory.display());
        let pushed = self.copy(&source, name, "oci", false);
        std::fs::remove_dir_all(&directory).expect("remove a layout");
        pushed
    }

    fn push(&self, base: Base) -> Result<String, String> {
        let format = if base == Base::Triggers {
            "v2s2"
        } else {
            "oci"
        };
        self.copy(&base.make()?, base.name(), format, base == Base::Platforms)
    }

    fn copy(&self, source: &str, name: &str, format: &str, all: bool) -> Result<String, String> {
        let skopeo = find("skopeo").ok_or("no skopeo")?;
        let reference = format!("{}/{name}:1", self.host());
        let output = Command::new(skopeo)
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
            ])
            .args(all.then_some("--all"))
            .args(["--format", format, source, &format!("docker://{reference}")])
            .output()
            .map_err(|error| format!("skopeo: {error}"))?;
        assert!(
            output.status.success(),
            "skopeo copy {source}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(reference)
    }
}

/// Returns the reference of a base image in the shared registry; a test returns, as skipped, where
/// there is none.
#[macro_export]
macro_rules! base {
    ($world:expr, $base:ident) => {
        match $crate::Registry::shared().and_then(|registry| registry.base($crate::Base::$base)) {
            Ok(reference) => reference,
            Err(why) => return $crate::skip(&$world.test, &why),
        }
    };
}

/// Has a test return, as skipped, where one of the programs is not installed.
#[macro_export]
macro_rules! need {
    ($world:expr, $($program:literal),+) => {
        for program in [$($program),+] {
            if $crate::process::find(program).is_none() {
                return $crate::skip(&$world.test, &format!("no {program}"));
            }
        }
    };
}
