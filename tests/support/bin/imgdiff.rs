//! `imgdiff`: compares two container images from the command line.
//!
//! Responsible for its arguments and its output; the comparison is the library's. Exit status: 0
//! the images agree, 1 they differ, 2 an image can't be read or the command line is wrong.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program"
)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use support::image::{Image, Options, compare};

const USAGE: &str = "\
usage: imgdiff [options] A B

A and B are each an OCI layout directory, an OCI archive or a docker archive;
of several images in one, PATH#TAG or PATH#sha256:… names one.

  --ignore PATH         leave out PATH and what is below it; repeatable
  --ignore-config KEY   leave out a key of the config, such as Healthcheck
  --ignore-label KEY    leave out a label
  --ignore-xattr NAME   leave out extended attributes that begin with NAME
  --mtime, --no-mtime   compare modification times (default: no)
  --hard-links          compare which names are the same file
  --no-owner            do not compare uid and gid
  --no-config           do not compare the configs
  --content-only        compare kinds, modes and contents only
  --max N               print at most N differences (default 40)
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("imgdiff: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut options = Options::standard();
    let mut max = 40;
    let mut images = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--ignore" => options.ignore.push(value()?.trim_matches('/').into()),
            "--ignore-config" => options.ignore_config.push(value()?),
            "--ignore-label" => options.ignore_labels.push(value()?),
            "--ignore-xattr" => options.ignore_xattrs.push(value()?),
            "--mtime" => options.mtime = true,
            "--no-mtime" => options.mtime = false,
            "--hard-links" => options.hard_links = true,
            "--no-owner" => options.owner = false,
            "--no-config" => options.config = false,
            "--content-only" => options.content_only = true,
            "--max" => max = value()?.parse().context("--max")?,
            "-h" | "--help" => {
                print!("{USAGE}");
                return Ok(true);
            }
            option if option.starts_with('-') => bail!("unknown option {option}\n{USAGE}"),
            _ => images.push(argument),
        }
    }
    let [a, b] = images.as_slice() else {
        bail!("two images are needed\n{USAGE}");
    };
    let found = compare(&Image::open(a)?, &Image::open(b)?, &options)?;
    for line in found.differences.iter().take(max) {
        println!("{line}");
    }
    println!(
        "imgdiff: {} and {} paths, {} and {} layers, {} differences",
        found.paths.0,
        found.paths.1,
        found.layers.0,
        found.layers.1,
        found.differences.len()
    );
    Ok(found.differences.is_empty())
}
