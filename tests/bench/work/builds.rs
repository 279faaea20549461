//! Builds.
//!
//! Responsible for contexts and Dockerfiles. Must not know who builds them.

use std::fmt::Write as _;

use support::{Base, Registry, World};

use super::files::random;
use super::images::many_files;
use super::{Build, Task, Work};

/// Writes 20,000 files in 100 directories with nothing but the shell's own means.
const SMALL_FILES: &str = "mkdir -p /files && cd /files && i=0 && while [ $i -lt 100 ]; do \
    mkdir $i; j=0; while [ $j -lt 200 ]; do echo $i.$j >$i/$j; j=$((j+1)); done; i=$((i+1)); done";

/// Keeps one processor busy for some tenths of a second.
const BUSY: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo $i";

/// Prepares the builds whose names are wanted.
pub(super) fn all(world: &World, registry: &Registry, wanted: &dyn Fn(&str) -> bool) -> Vec<Work> {
    let base = registry
        .base(Base::Busybox)
        .unwrap_or_else(|why| panic!("{why}"));
    let from = format!("FROM {base}\n");
    let mut all = Vec::new();
    let mut add = |name: &'static str, rounds, build: Build, proof: (&'static str, &str)| {
        if wanted(name) {
            all.push(Work {
                name,
                large: ["copy", "layer"].contains(&build.context),
                task: Task::Build(build),
                rounds,
                proof: (proof.0, proof.1.to_owned()),
            });
            return true;
        }
        false
    };
    let build = |context| Build {
        context,
        ..Build::default()
    };
    let often = usize::MAX;

    let cached = Build {
        cached: true,
        ..build("nine")
    };
    if add(
        "cached rebuild, 9 steps",
        often,
        cached,
        ("cat g2", "file 2\n"),
    ) {
        nine_steps(world, &from);
    }
    let proof = ("ls -d bin", "bin\n");
    if add("20 × RUN true", often, build("steps"), proof) {
        let text = format!("{from}{}", "RUN true\n".repeat(20));
        world.write("steps/Dockerfile", text);
    }
    let small = Build {
        script: Some(SMALL_FILES),
        ..build("small")
    };
    let proof = (
        "find files -type f | wc -l; cat files/99/199",
        "20000\n99.199\n",
    );
    if add("RUN writing 20,000 files", often, small, proof) {
        world.write("small/Dockerfile", format!("{from}RUN {SMALL_FILES}\n"));
    }
    let proof = ("cat data/? | wc -c; cat data/turn", "524288000\nCONTENT\n");
    let cached_proof = ("cat data/? | wc -c", "524288000\n");
    let copies = [
        ("COPY 500 MB, gzip archive", 3, false, Some("gzip")),
        ("COPY 500 MB, zstd archive", 3, false, Some("zstd")),
        ("COPY 500 MB, cached", often, true, None),
    ];
    let mut copied = false;
    for (name, rounds, cached, archive) in copies {
        // Without the cache too, a layer that was compressed once is known by its digest.
        let copy = Build {
            cached,
            archive,
            changes: (!cached).then_some("data/turn"),
            ..build("copy")
        };
        copied |= add(
            name,
            rounds,
            copy,
            if cached { cached_proof } else { proof },
        );
    }
    if copied {
        world.write("copy/Dockerfile", format!("{from}COPY data /data\n"));
        for file in 0..10 {
            random(world, &format!("copy/data/{file}"), 50, file + 1);
        }
    }
    let layer = Build {
        archive: Some("gzip"),
        ..build("layer")
    };
    if add(
        "layer of 1 GiB, gzip archive",
        1,
        layer,
        ("cat f | wc -c", "1073741824\n"),
    ) {
        world.write("layer/Dockerfile", format!("{from}COPY f /\n"));
        random(world, "layer/f", 1024, 99);
    }
    let proof = ("ls -d bin; cat ran", "bin\nran\n");
    if add("RUN on a tree of few files", often, build("few"), proof) {
        world.write("few/Dockerfile", format!("{from}RUN echo ran >/ran\n"));
    }
    if add("RUN on 100,000 files", often, build("many"), proof) {
        let image = many_files(registry);
        world.write(
            "many/Dockerfile",
            format!("FROM {image}\nRUN echo ran >/ran\n"),
        );
    }
    let whole = Build {
        cached: true,
        ..build("twelve")
    };
    let last = Build {
        changes: Some("last"),
        ..whole.clone()
    };
    let proof = ("cat s0 s10", "stage 0\nstage 10\n");
    let mut staged = add("no-op, 60 steps in 12 stages", often, whole, proof);
    let proof = ("cat s10 last", "stage 10\nCONTENT\n");
    staged |= add("the same, last COPY changed", often, last, proof);
    if staged {
        twelve_stages(world, &from);
    }
    let parallel = Build {
        jobs: Some(8),
        ..build("parallel")
    };
    if add(
        "8 parallel stages",
        3,
        parallel,
        ("cat r0 r7", "100000\n100000\n"),
    ) {
        let mut text = String::new();
        for stage in 0..8 {
            let from = from.trim_end();
            writeln!(text, "{from} AS s{stage}\nRUN : {stage}; {{ {BUSY}; }} >/r")
                .expect("to memory");
        }
        text.push_str(&from);
        for stage in 0..8 {
            writeln!(text, "COPY --from=s{stage} /r /r{stage}").expect("to memory");
        }
        world.write("parallel/Dockerfile", text);
    }
    all
}

fn nine_steps(world: &World, from: &str) {
    let mut text = from.to_owned();
    for step in 0..3 {
        write!(
            text,
            "ENV STEP={step}\nCOPY f{step} /\nRUN cat /f{step} >/g{step}\n"
        )
        .expect("write to memory");
        world.write(&format!("nine/f{step}"), format!("file {step}\n"));
    }
    world.write("nine/Dockerfile", text);
}

/// Eleven stages of four steps, and one that copies from all of them, with its 16 steps.
fn twelve_stages(world: &World, from: &str) {
    let mut text = String::new();
    for stage in 0..11 {
        let from = from.trim_end();
        write!(
            text,
            "{from} AS s{stage}\nENV STAGE={stage}\nCOPY f{stage} /in\nRUN cat /in >/s{stage}\n\
             RUN test -s /s{stage}\n"
        )
        .expect("write to memory");
        world.write(&format!("twelve/f{stage}"), format!("stage {stage}\n"));
    }
    text.push_str(from);
    for stage in 0..11 {
        writeln!(text, "COPY --from=s{stage} /s{stage} /").expect("write to memory");
    }
    text.push_str("ENV A=b\nWORKDIR /w\nRUN cat /s? /s10 >all\nLABEL c=d\nCOPY last /last\n");
    world.write("twelve/last", "0\n");
    world.write("twelve/Dockerfile", text);
}
