//! Options that limit what RUN steps use up, and which privileges they have.
//!
//! Responsible for docker's and buildah's forms of sizes, limits and capabilities. Must not enforce
//! anything. Invariant: what is accepted here is part of the [`Confinement`] that comes out.

use runtime::caps;
use runtime::sandbox::Confinement;
use runtime::spec::{Cpu, Memory, Rlimit};

use super::steps::usage;
use crate::dockerfile::suggest;
use crate::error::{Error, Result};

/// The part of `build`'s command line that is about limits.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits of RUN steps")]
pub(super) struct LimitArgs {
    /// Limit a step's processes: NAME as in `ulimit`, -1 for none
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,

    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,

    /// Give a capability to a step's root; ALL for all
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,

    /// Take a capability from a step's root; ALL for all
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,

    /// Control group in which steps get theirs
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,

    /// Most memory that a step may use
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,

    /// Most memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,

    /// Weight of a step's processor time; 1024 is usual
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,

    /// Period of --cpu-quota in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,

    /// Processor time of a step in each period, in microseconds
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,

    /// Processors that a step may run on
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes that a step may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
}

impl LimitArgs {
    /// Works out what they mean.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`], naming what is wrong.
    pub(super) fn confinement(self) -> Result<Confinement> {
        let mut confinement = Confinement {
            shm_size: (self.shm_size.as_deref())
                .map(|text| size("--shm-size", text))
                .transpose()?,
            capabilities: capabilities(&self.cap_add, &self.cap_drop)?,
            cgroup_parent: self.cgroup_parent.clone(),
            ..Confinement::default()
        };
        for text in &self.ulimit {
            let limit = ulimit(text)?;
            let limits = &mut confinement.rlimits;
            limits.retain(|known| known.kind != limit.kind);
            limits.push(limit);
        }
        if confinement.shm_size == Some(0) {
            return Err(usage("--shm-size can't be 0"));
        }
        if self.cgroup_parent.as_deref() == Some("") {
            return Err(usage("--cgroup-parent can't be empty"));
        }
        confinement.resources.memory = self.memory()?;
        confinement.resources.cpu = self.cpu()?;
        Ok(confinement)
    }

    fn memory(&self) -> Result<Option<Memory>> {
        let Some(text) = &self.memory else {
            return match &self.memory_swap {
                None => Ok(None),
                Some(_) => Err(usage("--memory-swap needs --memory")),
            };
        };
        let limit = signed("--memory", text)?;
        let swap = match self.memory_swap.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => Some(signed("--memory-swap", text)?),
        };
        if swap.is_some_and(|sum| (0..limit).contains(&sum)) {
            return Err(usage("--memory-swap is less than --memory")
                .hint("it is the sum of memory and swap"));
        }
        Ok(Some(Memory {
            limit: Some(limit),
            swap,
            ..Memory::default()
        }))
    }

    fn cpu(&self) -> Result<Option<Cpu>> {
        let list = |flag: &str, text: &Option<String>| match text {
            None => Ok(String::new()),
            Some(text) if is_list(text) => Ok(text.clone()),
            Some(text) => {
                Err(usage(format!("{flag} `{text}` is not a list")).hint("it is one such as 0-2,4"))
            }
        };
        let cpu = Cpu {
            shares: self.cpu_shares,
            quota: self.cpu_quota,
            period: self.cpu_period,
            cpus: list("--cpuset-cpus", &self.cpuset_cpus)?,
            mems: list("--cpuset-mems", &self.cpuset_mems)?,
            ..Cpu::default()
        };
        Ok(Some(cpu).filter(|cpu| *cpu != Cpu::default()))
    }
}

/// Parses `512m`: units are powers of 1024, without one it is bytes.
pub(super) fn size(flag: &str, text: &str) -> Result<u64> {
    let wrong = || {
        usage(format!("{flag} `{text}` is not a size"))
            .hint("it is a number with an optional unit: b, k, m, g or t")
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(wrong());
    }
    let unit = 1_u64 << shift;
    match digits.parse::<u64>() {
        Ok(number) => number.checked_mul(unit).ok_or_else(wrong),
        // `1.5g`, of which a fraction of a byte is nothing.
        Err(_) => match digits.parse::<f64>() {
            Ok(number) if number * (unit as f64) < 9e18 => Ok((number * unit as f64) as u64),
            _ => Err(wrong()),
        },
    }
}

fn signed(flag: &str, text: &str) -> Result<i64> {
    let bytes = size(flag, text)?;
    match i64::try_from(bytes) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(usage(format!("{flag} can't be {text}"))),
    }
}

/// Tells whether a text is a list of numbers and ranges, as cpuset(7) has it.
fn is_list(text: &str) -> bool {
    text.split(',').all(|part| {
        let ends: Vec<&str> = part.splitn(2, '-').collect();
        ends.iter()
            .all(|end| !end.is_empty() && end.chars().all(|c| c.is_ascii_digit()))
    })
}

/// docker's names (github.com/docker/go-units).
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Parses `nofile=1024:4096`; the hard limit is the soft one without the colon.
fn ulimit(text: &str) -> Result<Rlimit> {
    let wrong = |what: &str| usage(format!("--ulimit `{text}`: {what}"));
    let Some((name, value)) = text.split_once('=') else {
        return Err(wrong("no value").hint("it is NAME=SOFT[:HARD]"));
    };
    if !LIMITS.contains(&name) {
        let hint = suggest::hint(name, LIMITS)
            .unwrap_or_else(|| format!("the limits are: {}", LIMITS.join(", ")));
        return Err(wrong("unknown limit").hint(hint));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => (text.parse::<u64>()).map_err(|_| wrong(&format!("`{text}` is not a number"))),
    };
    let (soft, hard) = match value.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(value)?, number(value)?),
    };
    if soft > hard {
        return Err(wrong("the soft limit is above the hard one"));
    }
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
        hard,
        soft,
    })
}

/// Joins `--cap-add` and `--cap-drop` as podman does: ALL first, then single ones.
fn capabilities(add: &[String], drop: &[String]) -> Result<Option<u64>> {
    if add.is_empty() && drop.is_empty() {
        return Ok(None);
    }
    let is_all =
        |name: &String| name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL");
    let every = caps::names()
        .iter()
        .filter_map(|name| caps::by_name(name))
        .fold(0, |set, one| set | one.bits());
    let (all_added, all_dropped) = (add.iter().any(is_all), drop.iter().any(is_all));
    if all_added && all_dropped {
        return Err(usage(
            "--cap-add=ALL and --cap-drop=ALL contradict each other",
        ));
    }
    let mut set = match (all_added, all_dropped) {
        (true, _) => every,
        (_, true) => 0,
        _ => caps::DEFAULT.bits(),
    };
    let single = |flag: &str, names: &[String]| {
        let names = names.iter().filter(|name| !is_all(name));
        names
            .map(|name| capability(flag, name))
            .collect::<Result<Vec<u64>>>()
    };
    let (added, dropped) = (single("--cap-add", add)?, single("--cap-drop", drop)?);
    if let Some(both) = added.iter().find(|one| dropped.contains(one)) {
        let name = caps::names()
            .into_iter()
            .find(|name| caps::by_name(name).is_some_and(|found| found.bits() == *both));
        return Err(usage(format!(
            "{} is both added and dropped",
            name.unwrap_or_default()
        )));
    }
    for one in added {
        set |= one;
    }
    for one in dropped {
        set &= !one;
    }
    Ok(Some(set))
}

fn capability(flag: &str, name: &str) -> Result<u64> {
    let upper = name.to_ascii_uppercase();
    let full = match upper.strip_prefix("CAP_") {
        Some(_) => upper,
        None => format!("CAP_{upper}"),
    };
    caps::by_name(&full)
        .map(|found| found.bits())
        .ok_or_else(|| {
            let names = caps::names();
            let error: Error = usage(format!("{flag}: unknown capability `{name}`"));
            match suggest::hint(&full, names.iter().map(String::as_str)) {
                Some(hint) => error.hint(hint),
                None => error.hint("their names are in capabilities(7)"),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("12B", 12),
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("2KiB", 2048),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size("--x", text).expect(text), bytes);
        }
        for text in ["", "m", "-1", "1 m", "1x", "1e3", "99999999999t", "0x1"] {
            let error = size("--x", text).expect_err(text);
            assert_eq!(error.to_string(), format!("--x `{text}` is not a size"));
        }
    }

    #[test]
    fn ulimits() {
        let limit = |text| ulimit(text).map(|l| (l.kind, l.soft, l.hard));
        let of = |kind: &str, soft, hard| (kind.to_owned(), soft, hard);
        assert_eq!(
            limit("nofile=10:20").expect("limit"),
            of("RLIMIT_NOFILE", 10, 20)
        );
        assert_eq!(limit("core=0").expect("limit"), of("RLIMIT_CORE", 0, 0));
        let most = of("RLIMIT_STACK", u64::MAX, u64::MAX);
        assert_eq!(limit("stack=-1").expect("limit"), most);
        for (text, wanted) in [
            ("nofile", "--ulimit `nofile`: no value"),
            ("nofiles=1", "--ulimit `nofiles=1`: unknown limit"),
            ("core=2:1", "--ulimit `core=2:1`: the soft limit is above"),
            ("core=x", "--ulimit `core=x`: `x` is not a number"),
        ] {
            let error = ulimit(text).expect_err(text);
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn sets_of_capabilities() {
        let set = |add: &[&str], drop: &[&str]| {
            let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
            capabilities(&words(add), &words(drop))
        };
        let bit = |name| caps::by_name(name).expect("known").bits();
        let usual = caps::DEFAULT.bits();
        assert_eq!(set(&[], &[]).expect("none"), None);
        assert_eq!(
            set(&["net_admin"], &["CAP_CHOWN"]).expect("both"),
            Some((usual | bit("CAP_NET_ADMIN")) & !bit("CAP_CHOWN"))
        );
        assert_eq!(
            set(&["KILL"], &["all"]).expect("one"),
            Some(bit("CAP_KILL"))
        );
        let all = set(&["ALL"], &["kill"]).expect("all").expect("a set");
        assert!(all & bit("CAP_KILL") == 0 && all & bit("CAP_SYS_ADMIN") != 0);
        assert!(set(&["ALL"], &["ALL"]).is_err());
        assert!(set(&["KILL"], &["cap_kill"]).is_err());
        let error = set(&["NET_ADMINS"], &[]).expect_err("unknown");
        assert_eq!(error.hints(), ["did you mean `CAP_NET_ADMIN`?"]);
    }

    #[test]
    fn lists() {
        for (text, valid) in [
            ("0", true),
            ("0-3,7", true),
            ("", false),
            ("a", false),
            ("1-", false),
            ("1,,2", false),
        ] {
            assert_eq!(is_list(text), valid, "{text}");
        }
    }
}
