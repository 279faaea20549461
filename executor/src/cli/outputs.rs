//! What becomes of a finished build: the image in the store, and all outputs.
//!
//! Responsible for the way from the states of the target stage to what `-o`, `--iidfile` and
//! `--metadata-file` ask for. Must not know how steps were executed. Invariant: the image is in
//! the store before anything is made of it.

use std::os::fd::AsFd;
use std::path::Path;

use serde_json::Value;

use super::beside::{self, Beside};
use super::build::Request;
use super::desk::Desk;
use super::push::Pusher;
use crate::attest::statement::Predicate;
use crate::build;
use crate::build::Attested;
use crate::build::attested::{Wanted, scan};
use crate::build::fetch::Fetcher;
use crate::build::jobs::{ExportLocalTask, ExportTarTask, Reply, Task};
use crate::build::state::State;
use crate::build::trees::Trees;
use crate::build::worker::Worker;
use crate::error::{Result, ResultExt};
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::layer::tar_write::Place;
use crate::output::assemble::{self, prepare_index, prepare_push, verbatim, verbatim_index};
use crate::output::destination::{self, Destination};
use crate::output::layout::{self, Export};
use crate::output::options::{Dest, Form, ImageTarget, Output, Target};
use crate::output::packing::Packing;
use crate::output::transcode::Watch;
use crate::output::{archive, metadata, tar};
use crate::progress::event::{Sender, Vertex};
use crate::registry::Registry;
use crate::store::images::Image;
use crate::store::lock::Session;

/// A finished build and what its outputs need.
pub(super) struct Outputs<'a> {
    pub(super) request: &'a Request,
    pub(super) desk: &'a Desk,
    pub(super) worker: &'a Worker,
    pub(super) session: &'a Session,
    pub(super) registry: &'a Registry,
    pub(super) progress: &'a Sender,
    pub(super) fetcher: &'a Fetcher<'a>,
    pub(super) trees: &'a Trees<'a>,
    /// The result for each platform.
    pub(super) states: &'a [State],
    /// What is said about each.
    pub(super) predicates: &'a [Vec<Predicate>],
    /// How each was made, for `--metadata-file`; nothing where it is not wanted.
    pub(super) provenance: Vec<Value>,
    /// What was found in the Dockerfile, for `--metadata-file`.
    pub(super) warnings: &'a [Value],
}

impl Outputs<'_> {
    /// Makes them all; returns the image's id, or its index's digest. There is none when the steps
    /// were to be run and nothing else.
    pub(super) fn make(&self) -> Result<Option<Digest>> {
        let outputs = &self.request.outputs;
        if !outputs.is_empty() && outputs.iter().all(|o| o.target == Target::None) {
            return Ok(None);
        }
        let image = self.store()?;
        let mut written = None;
        for output in outputs {
            written = self.write(output, &image)?.or(written);
        }
        self.describe(&image, written)?;
        Ok(Some(image.index.unwrap_or(image.config_digest)))
    }

    /// Tells whether an output wants the image in the store just as it is there anyway.
    fn is_plain(&self, form: &Form) -> bool {
        let plain = Form {
            annotations: self.request.annotations.clone(),
            ..Form::default()
        };
        *form == plain
    }

    /// Puts the image into the store, under the names of `-t` and of outputs that stay here.
    fn store(&self) -> Result<Image> {
        let vertex = self.progress.start("exporting to image");
        let mut names = self.request.tags.clone();
        for output in &self.request.outputs {
            if let Target::Image(ImageTarget { store: true, .. }) = output.target
                && self.is_plain(&output.form)
            {
                names.extend(output.names.iter().cloned());
            }
        }
        let annotations = &self.request.annotations;
        let stored = match self.states {
            [state] if !self.request.index => {
                build::store(self.session, state, annotations, &names).map(|stored| stored.manifest)
            }
            states => {
                let all = self.all_names();
                let attested = Attested {
                    predicates: self.predicates,
                    names: &all,
                };
                let host = Platform::host();
                build::store_several(self.session, states, annotations, &host, &names, attested)
            }
        };
        let images = self.session.store().images();
        let stored = stored.and_then(|digest| images.get(&digest.to_string()));
        match &stored {
            Ok(image) => {
                let result = match image.index {
                    Some(index) => format!("index {index}"),
                    None => format!("image {}", image.config_digest),
                };
                vertex.status(&format!("writing {result}"), 0, None, true);
                for name in &names {
                    vertex.status(&format!("naming to {name}"), 0, None, true);
                }
                vertex.done();
                let names: String = names.iter().map(|name| format!(" {name}")).collect();
                self.progress.result(result + &names);
            }
            Err(error) => vertex.fail(error),
        }
        stored
    }

    /// Makes one output; returns the form in which the image left the store, if it did.
    fn write(&self, output: &Output, image: &Image) -> Result<Option<Export>> {
        let vertex = match &output.target {
            Target::None => return Ok(None),
            Target::Image(target) if target.push => self.progress.start("pushing image"),
            Target::Image(target) => {
                let plain = self.is_plain(&output.form);
                if plain && !target.unpack && !target.canonical {
                    return Ok(None);
                }
                self.progress.start("exporting to the store")
            }
            Target::Archive { dest, .. } | Target::Tar(dest) => {
                self.progress.start(format!("exporting to {}", shown(dest)))
            }
            Target::Local { dest, .. } => self
                .progress
                .start(format!("exporting files to {}", dest.display())),
        };
        let result = match &output.target {
            Target::None => Ok(None),
            Target::Image(target) => self.write_image(output, *target, image, &vertex),
            Target::Archive { format, dest, tar } => self
                .export_whole(output, image, &vertex)
                .and_then(|export| {
                    let sink = match (dest, tar) {
                        (Dest::Path(path), false) => archive::Sink::dir(path)?,
                        _ => archive::Sink::tar(Destination::open(dest, stdout().as_fd())?),
                    };
                    layout::write(std::slice::from_ref(&export), *format, sink)?;
                    Ok(Some(export))
                }),
            Target::Tar(dest) => self.write_tar(output, dest, &vertex).map(|()| None),
            Target::Local { dest, delete } => self
                .write_files(output, dest, *delete, &vertex)
                .map(|()| None),
        };
        match &result {
            Ok(_) => vertex.done(),
            Err(error) => vertex.fail(error),
        }
        result
    }

    /// Pushes the image, and puts it into the store in another form than it has there.
    fn write_image(
        &self,
        output: &Output,
        target: ImageTarget,
        image: &Image,
        vertex: &Vertex,
    ) -> Result<Option<Export>> {
        let names = self.names(output);
        let mut written = None;
        let mut stored = image.index.unwrap_or(image.manifest_digest);
        if target.store && !self.is_plain(&output.form) {
            // Layers stay as they are here, unless the output says otherwise.
            let form = Form {
                compression: output.form.compression.or(Some(Packing::NONE)),
                ..output.form.clone()
            };
            let export = self.prepare(&form, names, image, vertex)?;
            stored = self.keep(&export)?;
            written = Some(export);
        }
        if target.push {
            let pusher = Pusher {
                registry: self.registry,
                session: self.session,
                fetcher: self.fetcher,
                vertex,
                cancel: &self.desk.cancel,
            };
            pusher.push(image, names, &output.form)?;
            written = Some(self.prepare(&output.form, names, image, vertex)?);
        }
        if target.canonical {
            let images = self.session.store().images();
            for name in names {
                let origin = Reference {
                    tag: None,
                    digest: Some(stored),
                    ..name.clone()
                };
                images.add_origin(&stored, &origin)?;
            }
        }
        if target.unpack {
            for state in self.states {
                self.trees.lowers(&state.layers, "the result")?;
            }
        }
        Ok(written)
    }

    /// Puts a form of the image into the store, under its names.
    fn keep(&self, export: &Export) -> Result<Digest> {
        let blobs = self.session.blobs();
        let images = self.session.store().images();
        match &export.index {
            None => {
                let digest = blobs.put(&export.plan.manifest_bytes)?;
                images.add(&digest, &export.names)?;
                Ok(digest)
            }
            Some(index) => {
                for part in &index.parts {
                    blobs.put(&part.manifest_bytes)?;
                }
                let digest = blobs.put(&index.bytes)?;
                images.add_index(&digest, &Platform::host(), &export.names)?;
                Ok(digest)
            }
        }
    }

    /// Brings the image into the form of an output, with all layers in the store.
    fn export_whole(&self, output: &Output, image: &Image, vertex: &Vertex) -> Result<Export> {
        for part in self.session.store().images().parts(image)? {
            self.fetcher.bring(&part.manifest.layers, "the image")?;
        }
        self.prepare(&output.form, self.names(output), image, vertex)
    }

    /// Brings the image, or the images of an index, into a form; layers that go as they are may be
    /// elsewhere.
    fn prepare(
        &self,
        form: &Form,
        names: &[Reference],
        image: &Image,
        vertex: &Vertex,
    ) -> Result<Export> {
        let watch = Watch {
            cancel: &self.desk.cancel,
            vertex: Some(vertex),
            ready: None,
        };
        for part in self.session.store().images().parts(image)? {
            let read = assemble::converted(self.session, &part, form);
            self.fetcher.bring(&read, "the image")?;
        }
        Ok(Export {
            plan: prepare_push(self.session, image, form, watch)?,
            index: prepare_index(self.session, image, form, watch)?,
            names: names.to_vec(),
        })
    }

    /// Returns the names that the image has anywhere, of which statements are.
    fn all_names(&self) -> Vec<Reference> {
        let outputs = self.request.outputs.iter().flat_map(|output| &output.names);
        let mut names: Vec<Reference> = self.request.tags.iter().chain(outputs).cloned().collect();
        names.sort_by_key(Reference::to_string);
        names.dedup();
        names
    }

    /// Makes the statements about the files of an image, where they go beside them.
    fn beside(&self, output: &Output, number: usize) -> Result<Vec<Beside>> {
        let predicates = self.predicates.get(number).map_or(&[][..], Vec::as_slice);
        let wanted = beside::wanted(predicates);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let state = &self.states[number];
        let scan = scan(
            state,
            self.session,
            self.worker,
            self.trees,
            Wanted::Digests,
        )?;
        let shared = self.states.len() > 1 && self.below(output, state).is_none();
        let platform = shared.then_some(&state.config.platform);
        beside::statements(&wanted, &scan, &output.prefix, platform)
    }

    fn names<'o>(&'o self, output: &'o Output) -> &'o [Reference] {
        if output.names.is_empty() {
            &self.request.tags
        } else {
            &output.names
        }
    }

    /// Tells whether a tree goes into a directory named after its platform, and into which.
    fn below(&self, output: &Output, state: &State) -> Option<String> {
        let split = output.split.unwrap_or(self.states.len() > 1);
        split.then(|| state.config.platform.to_string().replace('/', "_"))
    }

    fn write_tar(&self, output: &Output, dest: &Dest, vertex: &Vertex) -> Result<()> {
        let destination = Destination::open(dest, stdout().as_fd())?;
        for (n, state) in self.states.iter().enumerate() {
            let statements = self.beside(output, n)?;
            let last = n + 1 == self.states.len();
            let below = self.below(output, state).unwrap_or_default();
            let task = Task::ExportTar(ExportTarTask {
                lowers: self.trees.lowers(&state.layers, "the result")?,
                below: below.clone(),
                latest: self.request.epoch,
                last: last && statements.is_empty(),
            });
            let reply = self.worker.submit(&task, &[destination.file().as_fd()])?;
            note(vertex, &reply);
            if !statements.is_empty() {
                let place = Place {
                    below: below.into_bytes(),
                    latest: self.request.epoch,
                };
                let files = statements.iter().map(|s| (s.name.as_str(), &s.bytes[..]));
                let now = jiff::Timestamp::now().as_second();
                tar::add_files(files, now, place, last, destination.file())?;
            }
        }
        destination.finish()
    }

    fn write_files(
        &self,
        output: &Output,
        dest: &Path,
        delete: bool,
        vertex: &Vertex,
    ) -> Result<()> {
        std::fs::create_dir_all(dest).op_path("create", dest)?;
        let dest = std::path::absolute(dest).op_path("find", dest)?;
        let below = |state| self.below(output, state);
        let parts: Vec<String> = self.states.iter().filter_map(below).collect();
        if delete && !parts.is_empty() {
            destination::keep_only(&dest, &parts)?;
        }
        // Trees of several platforms in one directory are one tree: none removes another's files.
        let mut delete = delete;
        for (n, state) in self.states.iter().enumerate() {
            let statements = self.beside(output, n)?;
            let part = self.below(output, state);
            let own = part
                .as_ref()
                .map_or_else(|| dest.clone(), |part| dest.join(part));
            std::fs::create_dir_all(&own).op_path("create", &own)?;
            let task = Task::ExportLocal(ExportLocalTask {
                lowers: self.trees.lowers(&state.layers, "the result")?,
                dest: own.clone(),
                delete,
                latest: self.request.epoch,
            });
            delete = delete && part.is_some();
            note(vertex, &self.worker.submit(&task, &[])?);
            for statement in statements {
                destination::write_file(&own.join(&statement.name), &statement.bytes)?;
            }
        }
        Ok(())
    }

    /// Writes `--iidfile` and `--metadata-file`.
    fn describe(&self, image: &Image, written: Option<Export>) -> Result<()> {
        let request = self.request;
        if request.iidfile.is_none() && request.metadata_file.is_none() {
            return Ok(());
        }
        let plan = match written {
            Some(plan) => plan,
            None => Export {
                plan: verbatim(self.session, image)?,
                index: verbatim_index(self.session, image)?,
                names: Vec::new(),
            },
        };
        if let Some(path) = &request.iidfile {
            destination::write_file(path, &metadata::iid(&plan))?;
        }
        if let Some(path) = &request.metadata_file {
            let names = if plan.names.is_empty() {
                &request.tags
            } else {
                &plan.names
            };
            let platforms = self.states.iter().map(|state| &state.config.platform);
            let provenance: Vec<_> = platforms.zip(&self.provenance).collect();
            let bytes = metadata::metadata(&plan, names, &provenance, self.warnings);
            destination::write_file(path, &bytes)?;
        }
        Ok(())
    }
}

fn note(vertex: &Vertex, reply: &Reply) {
    if let Reply::Exported(notes) = reply {
        for text in notes {
            vertex.warn(text.clone());
        }
    }
}

fn stdout() -> std::io::Stdout {
    std::io::stdout()
}

fn shown(dest: &Dest) -> String {
    match dest {
        Dest::Stdout => "standard output".into(),
        Dest::Path(path) => path.display().to_string(),
    }
}
