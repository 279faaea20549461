//! The pieces of work that are measured.
//!
//! Responsible for their contexts and Dockerfiles. Must not know who does the work.

use std::fmt::Write as _;
use std::io::Write as _;

use support::{Base, Registry, World};

/// What is to be done with a context.
#[derive(Debug)]
pub(crate) struct Work {
    /// For the table.
    pub name: &'static str,
    /// Context directory in the world; its Dockerfile is inside.
    pub context: &'static str,
    /// Whether the cache may be used; it is filled beforehand.
    pub cached: bool,
    /// Whether the image is written to a gzip OCI archive, too.
    pub archive: bool,
    /// How often, at most.
    pub rounds: usize,
    /// The script of its one RUN step, for a comparison without any builder.
    pub script: Option<&'static str>,
}

/// Writes 20,000 files in 100 directories with nothing but the shell's own means.
const SMALL_FILES: &str = "mkdir -p /files && cd /files && i=0 && while [ $i -lt 100 ]; do \
    mkdir $i; j=0; while [ $j -lt 200 ]; do echo $i.$j >$i/$j; j=$((j+1)); done; i=$((i+1)); done";

/// Prepares every piece of work.
pub(crate) fn all(world: &World) -> Vec<Work> {
    let registry = Registry::shared().unwrap_or_else(|why| panic!("{why}"));
    let base = registry
        .base(Base::Busybox)
        .unwrap_or_else(|why| panic!("{why}"));

    world.write(
        "steps/Dockerfile",
        format!("FROM {base}\n{}", "RUN true\n".repeat(20)),
    );

    let mut text = format!("FROM {base}\n");
    for step in 0..3 {
        write!(
            text,
            "ENV STEP={step}\nCOPY f{step} /\nRUN cat /f{step} >/g{step}\n"
        )
        .expect("write to memory");
        world.write(&format!("nine/f{step}"), format!("file {step}\n"));
    }
    world.write("nine/Dockerfile", text);

    world.write(
        "small/Dockerfile",
        format!("FROM {base}\nRUN {SMALL_FILES}\n"),
    );

    world.write("copy/Dockerfile", format!("FROM {base}\nCOPY data /data\n"));
    for file in 0..10 {
        random_file(world, &format!("copy/data/{file}"), 50, file + 1);
    }

    world.write("layer/Dockerfile", "FROM scratch\nCOPY f /\n");
    random_file(world, "layer/f", 1024, 99);

    let work = |name, context| Work {
        name,
        context,
        cached: false,
        archive: false,
        rounds: usize::MAX,
        script: None,
    };
    vec![
        Work {
            cached: true,
            ..work("cached rebuild, 9 steps", "nine")
        },
        work("20 × RUN true", "steps"),
        Work {
            script: Some(SMALL_FILES),
            ..work("RUN writing 20,000 files", "small")
        },
        Work {
            archive: true,
            rounds: 3,
            ..work("COPY 500 MB, gzip archive", "copy")
        },
        Work {
            cached: true,
            ..work("COPY 500 MB, cached", "copy")
        },
        Work {
            archive: true,
            rounds: 1,
            ..work("layer of 1 GiB, gzip archive", "layer")
        },
    ]
}

/// Writes a file that doesn't compress, the same in every run.
fn random_file(world: &World, name: &str, mebibytes: usize, seed: u64) {
    let path = world.write(name, "");
    let mut file = std::fs::File::create(path).expect("make a file");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mebibytes {
        for chunk in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).expect("write a file");
    }
}
