//! `update`: changes a container's limits.

use std::io::Read;

use runtime::error::ResultExt;
use runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};
use runtime::{Error, Result};

use super::args::{Flag, Matches, Stop, Takes, invalid};
use super::context::Context;
use super::verb::{Outcome, Verb};

const RDT: Takes = Takes::Refused("resource director technology is not");
const KERNEL: Takes = Takes::Ineffective("the kernel has no such limit any more (Linux 5.16)");

/// The options that each set one limit.
const LIMITS: &[Flag] = &[
    Flag::value("blkio-weight", "N", "weight of block I/O, 10 to 1000"),
    Flag::value("cpu-burst", "µs", "processor time that may be saved up"),
    Flag::value("cpu-idle", "0|1", "run only when nothing else does"),
    Flag::value("cpu-period", "µs", "period of --cpu-quota"),
    Flag::value(
        "cpu-quota",
        "µs",
        "processor time in a period; -1 is no limit",
    ),
    Flag::value("cpu-rt-period", "µs", "period of --cpu-rt-runtime"),
    Flag::value(
        "cpu-rt-runtime",
        "µs",
        "real-time processor time in a period",
    ),
    Flag::value("cpu-share", "N", "weight of processor time"),
    Flag::value("cpuset-cpus", "LIST", "processors, such as 0-3,7"),
    Flag::value("cpuset-mems", "LIST", "memory nodes"),
    Flag::value(
        "memory",
        "BYTES",
        "memory; k, m, g and t count in 1024s; -1 is no limit",
    ),
    Flag::value("memory-reservation", "BYTES", "soft limit of memory"),
    Flag::value("memory-swap", "BYTES", "memory and swap together"),
    Flag::value("pids-limit", "N", "processes; -1 is no limit"),
    Flag::new("kernel-memory", KERNEL, ""),
    Flag::new("kernel-memory-tcp", KERNEL, ""),
    Flag::new("l3-cache-schema", RDT, ""),
    Flag::new("mem-bw-schema", RDT, ""),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    name: "update",
    usage: "[OPTIONS] ID",
    about: "change the limits of a container",
    details: "What is not named stays as it is. The document of --resources is `linux.resources` of\n\
              the runtime specification, and excludes the other options.",
    flags: &[
        &[Flag::value(
            "resources",
            "FILE",
            "read limits from FILE; `-` is standard input",
        )
        .short(b'r')],
        LIMITS,
    ],
    arguments: (1, 1),
    stop: Stop::Never,
    enters: false,
    run,
};

fn run(context: &Context<'_>, matches: &Matches) -> Outcome {
    let resources = resources(matches, std::io::stdin())?;
    let (root, id) = context.named(matches)?;
    let container = context.load(&root, &id)?;
    container.update(&resources, &mut |text| context.log.warn(&text))?;
    Ok(0)
}

/// Reads the limits from where the options say.
fn resources(matches: &Matches, mut input: impl Read) -> Result<Resources> {
    let Some(path) = matches.value("resources") else {
        return from_options(matches);
    };
    if let Some(flag) = LIMITS
        .iter()
        .find(|flag| matches.value(flag.long).is_some())
    {
        return Err(Error::new(format!(
            "options `--resources` and `--{}` exclude each other",
            flag.long
        )));
    }
    let mut bytes = Vec::new();
    if path == "-" {
        input
            .read_to_end(&mut bytes)
            .op("read limits from standard input")?;
    } else {
        bytes = std::fs::read(path).op_path("read limits", path)?;
    }
    Resources::parse(&bytes)
}

fn from_options(matches: &Matches) -> Result<Resources> {
    let cpu = Cpu {
        shares: matches.number("cpu-share")?,
        quota: matches.number("cpu-quota")?,
        burst: matches.number("cpu-burst")?,
        period: matches.number("cpu-period")?,
        realtime_runtime: matches.number("cpu-rt-runtime")?,
        realtime_period: matches.number("cpu-rt-period")?,
        cpus: matches.text("cpuset-cpus")?.unwrap_or_default().to_owned(),
        mems: matches.text("cpuset-mems")?.unwrap_or_default().to_owned(),
        idle: matches.number("cpu-idle")?,
    };
    let memory = Memory {
        limit: size(matches, "memory")?,
        reservation: size(matches, "memory-reservation")?,
        swap: size(matches, "memory-swap")?,
        ..Memory::default()
    };
    let limit = matches.number("pids-limit")?;
    let weight = matches.number("blkio-weight")?;
    Ok(Resources {
        cpu: (cpu != Cpu::default()).then_some(cpu),
        memory: (memory != Memory::default()).then_some(memory),
        pids: limit.is_some().then_some(Pids { limit }),
        block_io: weight.is_some().then(|| BlockIo {
            weight,
            ..BlockIo::default()
        }),
        ..Resources::default()
    })
}

/// Reads a size: `-1`, bytes, or a number with a unit as docker's tools write them (`64m`, `1.5GB`,
/// `512KiB`), all of 1024s.
fn size(matches: &Matches, long: &'static str) -> Result<Option<i64>> {
    let Some(text) = matches.text(long)? else {
        return Ok(None);
    };
    if text == "-1" {
        return Ok(Some(-1));
    }
    let error = || invalid(long, text.as_ref(), "it is no size");
    let lower = text.to_ascii_lowercase();
    let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = lower[..lower.len() - unit.len()].trim();
    let unit = unit.trim_start();
    let shift = match unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(unit)
    {
        "" if unit == "ib" => return Err(error()),
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(error()),
    };
    let factor = 1i64 << shift;
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).map(Some).ok_or_else(error);
    }
    // Fractions of a unit; what is lost beyond 53 bits no one can mean.
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number.parse::<f64>().map_err(|_| error())? * factor as f64;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (0.0..9e18)
        .contains(&bytes)
        .then_some(Some(bytes as i64))
        .ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Resources> {
        let matches = VERB.parse(line.split_whitespace().map(Into::into))?;
        resources(&matches, &br#"{"pids":{"limit":7},"cpu":null}"#[..])
    }

    #[test]
    fn options_become_limits() {
        let found = parse(
            "--memory 64m --memory-swap -1 --cpu-share 100 --cpuset-cpus 0-1 \
            --pids-limit=-1 --blkio-weight 20 x",
        )
        .expect("limits");
        let memory = found.memory.expect("memory");
        assert_eq!((memory.limit, memory.swap), (Some(64 << 20), Some(-1)));
        let cpu = found.cpu.expect("cpu");
        assert_eq!((cpu.shares, cpu.cpus.as_str()), (Some(100), "0-1"));
        assert_eq!(found.pids.expect("pids").limit, Some(-1));
        assert_eq!(found.block_io.expect("block I/O").weight, Some(20));
        assert_eq!(parse("x").expect("nothing"), Resources::default());
    }

    #[test]
    fn documents_are_read() {
        let found = parse("--resources - x").expect("limits");
        assert_eq!(found.pids.expect("pids").limit, Some(7));
        assert!(found.cpu.is_none());
        assert!(parse("--resources /nonexistent x").is_err());
        let error = parse("-r - --memory 1 x").expect_err("both");
        assert!(error.to_string().contains("`--memory`"), "{error}");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("1000b", 1000),
            ("64K", 64 << 10),
            ("64kb", 64 << 10),
            ("64KiB", 64 << 10),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("-1", -1),
        ] {
            let found = parse(&format!("--memory {text} x")).expect(text);
            assert_eq!(found.memory.expect("memory").limit, Some(bytes), "{text}");
        }
        for text in [
            "", "x", "-2", "1x", "1.2.3", "k", "9999999t", "1ib", "nan", "inf",
        ] {
            assert!(parse(&format!("--memory={text} x")).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = parse("--l3-cache-schema x y").expect_err("refused");
        assert!(error.to_string().contains("--l3-cache-schema"), "{error}");
    }
}
