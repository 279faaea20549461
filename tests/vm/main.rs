//! The programs on Debian's stock kernel, with control groups of version 2: in a virtual machine.
//!
//! ```text
//! make test-vm                                       everything
//! cargo test -p sandcrab-tests --test vm -- pids     the checks with this in their name
//! SANDCRAB_VM_RUNTIME=crun cargo test … --test vm    another runtime, to check the checks
//! SANDCRAB_VM_CONSOLE=1 cargo test … --test vm       shows what the kernel said
//! ```
//!
//! Hosts differ in what they delegate, and their kernels in what they can; this machine is always
//! the same: Debian's cloud kernel (`tests/vm/fetch-kernel`), emulated in software (no `/dev/kvm`
//! is needed, nor any right), with every controller of cgroup version 2, delegated as systemd does
//! it. `guest/` is the program inside; each of its checks is a test here.
//!
//! Responsible for the boot and for turning the machine's report into tests' results. Must not
//! check anything itself. Invariant: a check of which the machine says nothing has failed.
#![expect(clippy::print_stdout, reason = "a test program without a harness")]

mod archive;
mod contents;
mod machine;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use machine::Machine;
use support::process::find;

fn main() -> ExitCode {
    // Options are the usual harness's, which `cargo test` hands to every test program.
    let (options, filters): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with("--"));
    match start(&options, &filters) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &[String], filters: &[String]) -> Result<bool> {
    let listed = Command::new(contents::built("vm-guest")?)
        .arg("list")
        .args(filters)
        .output()?;
    ensure!(listed.status.success(), "vm-guest list");
    let expected: Vec<String> = String::from_utf8(listed.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    if options.iter().any(|option| option == "--list") {
        for name in &expected {
            println!("{name}: test");
        }
        return Ok(true);
    }
    println!("\nrunning {} tests", expected.len());
    if expected.is_empty() {
        return Ok(true);
    }
    let kernel = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/vm/kernel");
    let missing = if find("qemu-system-x86_64").is_none() {
        Some("there is no qemu-system-x86_64")
    } else if !kernel.join("version").exists() {
        Some("tests/vm/fetch-kernel has fetched no kernel")
    } else {
        None
    };
    if let Some(why) = missing {
        support::skip("vm", why);
        return Ok(true);
    }

    let runtime =
        std::env::var("SANDCRAB_VM_RUNTIME").unwrap_or_else(|_| "sandcrab-oci".to_owned());
    let started = Instant::now();
    let archive = contents::make(&kernel, &runtime)?;
    let machine = Machine::boot(&kernel, &archive, filters, Duration::from_secs(900))?;
    let complete = follow(&machine, expected)?;
    println!("vm: {runtime}, {:.1} s\n", started.elapsed().as_secs_f32());
    Ok(complete)
}

/// Prints the report as it comes; returns whether every expected check is in it and none failed.
fn follow(machine: &Machine, mut expected: Vec<String>) -> Result<bool> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut ended = Ok(());
    loop {
        let line = match machine.line() {
            Ok(Some(line)) if line != "done" => line,
            Ok(_) => break,
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        let name = if let Some(rest) = line.strip_prefix("ok ") {
            let (name, seconds) = rest.split_once(' ').unwrap_or((rest, "?"));
            println!("test {name} ... ok ({seconds} s)");
            passed += 1;
            name
        } else if let Some(rest) = line.strip_prefix("skip ") {
            let (name, why) = rest.split_once(": ").unwrap_or((rest, "?"));
            support::skip(name, why);
            skipped += 1;
            name
        } else if let Some(name) = line.strip_prefix("not ok ") {
            println!("test {name} ... FAILED");
            failed += 1;
            name
        } else {
            // Part of a failure, or what a program said out of turn.
            println!("  {line}");
            continue;
        };
        expected.retain(|other| other != name);
    }
    if !expected.is_empty() || std::env::var_os("SANDCRAB_VM_CONSOLE").is_some() {
        println!("the console:\n{}", machine.console());
    }
    if let Some(first) = expected.first() {
        let count = expected.len();
        println!("the machine ended without a word about {count} tests, from {first} on");
    }
    failed += expected.len();
    println!("\ntest result: {passed} passed; {failed} failed; {skipped} skipped");
    ended?;
    Ok(failed == 0)
}
