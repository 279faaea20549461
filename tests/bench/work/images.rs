//! Images that are pulled and pushed.
//!
//! Responsible for what is in them. Must not know who moves them.

use support::content::Numbers;
use support::layer::{Layer, by_root};
use support::{Base, Registry};

use super::{Task, Work};

/// How many layers the large image has; 10,000 files in each.
const LAYERS: usize = 5;

/// How long each of its files is: together 1 GiB.
const LENGTH: usize = (1 << 30) / (LAYERS * 10_000);

/// Prepares the pieces of work whose names are wanted.
pub(super) fn all(registry: &Registry, wanted: &dyn Fn(&str) -> bool) -> Vec<Work> {
    let (pull, push) = ("pull and unpack 1 GiB", "push 1 GiB");
    if !wanted(pull) && !wanted(push) {
        return Vec::new();
    }
    let image = large(registry);
    let script = "find files -type f | wc -l; cat files/4/99/99 | wc -c";
    let proof = (script, format!("{}\n{LENGTH}\n", LAYERS * 10_000));
    let work = |name, task, rounds| Work {
        name,
        task,
        rounds,
        large: false,
        proof: proof.clone(),
    };
    let both = [
        work(
            pull,
            Task::Pull {
                image: image.clone(),
            },
            // ext4 is slow to make files where many have just been removed, and the next round would.
            1,
        ),
        work(
            push,
            Task::Push {
                image,
                layers: LAYERS + 1,
            },
            3,
        ),
    ];
    both.into_iter().filter(|work| wanted(work.name)).collect()
}

/// Pushes an image of 50,000 files, on busybox, and returns its reference.
fn large(registry: &Registry) -> String {
    let mut layers = busybox();
    for number in 0..LAYERS {
        let mut layer = Layer::empty().dir("files", by_root(0o755));
        let mut numbers = Numbers::new(number as u64 + 7);
        let mut block = vec![0; LENGTH];
        layer = layer.dir(&format!("files/{number}"), by_root(0o755));
        for directory in 0..100 {
            let parent = format!("files/{number}/{directory}");
            layer = layer.dir(&parent, by_root(0o755));
            for file in 0..100 {
                numbers.fill_with_text(&mut block);
                layer = layer.file(&format!("{parent}/{file}"), by_root(0o644), &block);
            }
        }
        layers.push(layer.finish());
    }
    push(registry, "large", &layers)
}

/// Pushes an image of 100,000 empty files on busybox, and returns its reference.
pub(super) fn many_files(registry: &Registry) -> String {
    let mut layer = Layer::empty().dir("files", by_root(0o755));
    for directory in 0..100 {
        let parent = format!("files/{directory}");
        layer = layer.dir(&parent, by_root(0o755));
        for file in 0..1000 {
            layer = layer.file(&format!("{parent}/{file}"), by_root(0o644), b"");
        }
    }
    let mut layers = busybox();
    layers.push(layer.finish());
    push(registry, "many", &layers)
}

fn busybox() -> Vec<Vec<u8>> {
    Base::Busybox.layers().unwrap_or_else(|why| panic!("{why}"))
}

fn push(registry: &Registry, name: &str, layers: &[Vec<u8>]) -> String {
    let pushed = registry.image(name, layers);
    pushed.unwrap_or_else(|why| panic!("{why}"))
}
