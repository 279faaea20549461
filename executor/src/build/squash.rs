//! `--squash`: all layers of an image become one.
//!
//! Responsible for writing the merged tree as a layer and for a history that says so. Must not change
//! files. Invariant: the image has the same files, and one layer at most.

use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;

use crate::build::jobs::{ExportTarTask, Reply, Task};
use crate::build::state::{Layer, State};
use crate::build::trees::Trees;
use crate::build::worker::Worker;
use crate::error::{Result, ResultExt};
use crate::image::config::History;
use crate::image::digest::{DiffId, HashingReader};
use crate::progress::event::Sender;
use crate::store::lock::Session;

/// Makes one layer of all that an image has; `latest` bounds the times of files (seconds).
///
/// # Errors
/// Those of the file system, and of the job that writes the layer.
pub fn squash(
    state: &mut State,
    session: &Session,
    worker: &Worker,
    trees: &Trees<'_>,
    progress: &Sender,
    latest: Option<i64>,
) -> Result<()> {
    if state.layers.is_empty() {
        return Ok(());
    }
    let vertex = progress.start("squashing layers");
    let made = (|| {
        let file = session.blobs().file()?;
        let task = Task::ExportTar(ExportTarTask {
            lowers: trees.lowers(&state.layers, "the result")?,
            below: String::new(),
            latest,
            last: true,
        });
        if let Reply::Exported(notes) = worker.submit(&task, &[file.as_file().as_fd()])? {
            for note in notes {
                vertex.warn(note);
            }
        }
        let mut written = file.as_file();
        written.seek(SeekFrom::Start(0)).op("read layer")?;
        let mut reader = HashingReader::new(written);
        io::copy(&mut reader, &mut io::sink()).op("read layer")?;
        let (_, digest, size) = reader.finish();
        session.blobs().adopt(file, &digest)?;
        Ok(Layer::uncompressed(DiffId(digest), size))
    })();
    match made {
        Ok(layer) => {
            join(state, layer);
            vertex.done();
            Ok(())
        }
        Err(error) => {
            vertex.fail(&error);
            Err(error)
        }
    }
}

/// Puts one layer in the place of all, as docker's `--squash` writes the history.
fn join(state: &mut State, layer: Layer) {
    for entry in &mut state.config.history {
        entry.empty_layer = true;
    }
    state.config.history.push(History {
        created: state.config.created.clone(),
        comment: format!("merge of {} layers", state.layers.len()),
        ..History::default()
    });
    state.config.rootfs.diff_ids = vec![layer.diff_id];
    state.layers = vec![layer];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::platform::Platform;

    #[test]
    fn one_layer_has_one_entry_of_the_history() {
        let mut state = State::scratch(Platform::host());
        let layer = |text: &[u8]| Layer::uncompressed(DiffId(Digest::of(text)), 1);
        for text in [b"a", b"b"] {
            state.layers.push(layer(text));
            state.config.rootfs.diff_ids.push(layer(text).diff_id);
            state.config.history.push(History::default());
        }
        join(&mut state, layer(b"c"));
        assert_eq!(state.layers, [layer(b"c")]);
        assert_eq!(state.config.rootfs.diff_ids, [layer(b"c").diff_id]);
        let empty: Vec<bool> = state.config.history.iter().map(|h| h.empty_layer).collect();
        assert_eq!(empty, [true, true, false]);
    }
}
