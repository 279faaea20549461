//! Values with a syntax of their own: ports, signals, durations, modes, names, URLs.
//!
//! Responsible for checking them, both when they are written out and after expansion. Errors are
//! plain text, as the place is the caller's to know.

use super::ast::Keyword;

/// The shortest duration of HEALTHCHECK other than 0, in nanoseconds.
const SHORTEST: i128 = 1_000_000;

/// Parses `port[-port][/protocol]`, optionally after a host address and port that mean nothing in
/// an image; returns `port/protocol` for each port.
pub fn parse_ports(text: &str) -> Result<Vec<String>, String> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host_port = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = match protocol.to_ascii_lowercase() {
        p if p.is_empty() => "tcp".to_owned(),
        p if matches!(p.as_str(), "tcp" | "udp" | "sctp") => p,
        _ => {
            return Err(format!(
                "invalid protocol `{protocol}`: use tcp, udp or sctp"
            ));
        }
    };
    if port.is_empty() {
        return Err(format!("no port in `{text}`"));
    }
    let address = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid address `{host}`"));
    }
    let (first, last) = parse_range(port)?;
    if !host_port.is_empty() {
        let (host_first, host_last) = parse_range(host_port)?;
        if last != first && last - first != host_last - host_first {
            return Err(format!(
                "the ranges `{port}` and `{host_port}` differ in length"
            ));
        }
    }
    Ok((first..=last).map(|p| format!("{p}/{protocol}")).collect())
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // As BuildKit: Go reads a number with a sign, but the minus is the range's.
    let number = |t: &str| t.parse::<u16>().ok();
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err(format!("the range `{text}` is empty")),
        _ => Err(format!("invalid port `{text}`")),
    }
}

/// Linux's signals by name, without `SIG` (signal(7)).
const SIGNALS: [&str; 37] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    "UNUSED",
];

/// Checks a signal: its number, or its name with or without `SIG`, in any casing. As in BuildKit,
/// any number but 0 goes through; see [`is_strange_signal`].
pub fn check_signal(text: &str) -> Result<(), String> {
    let invalid = || Err(format!("invalid signal `{text}`"));
    if let Ok(number) = text.parse::<i64>() {
        return if number == 0 { invalid() } else { Ok(()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, most: u32| rest.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n));
    let known = SIGNALS.contains(&name)
        || name
            .strip_prefix("RTMIN+")
            .is_some_and(|rest| offset(rest, 15))
        || name
            .strip_prefix("RTMAX-")
            .is_some_and(|rest| offset(rest, 14));
    if known { Ok(()) } else { invalid() }
}

/// Tells whether a signal is a number that Linux has none for.
pub fn is_strange_signal(text: &str) -> bool {
    text.parse::<i64>()
        .is_ok_and(|number| !(1..=64).contains(&number))
}

/// Returns the names of all signals, with `SIG`.
pub fn signal_names() -> impl Iterator<Item = String> {
    SIGNALS.iter().map(|name| format!("SIG{name}"))
}

/// Parses a duration as Go writes it (`1h30m`, `1.5s`, `100ms`, `0`); returns nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration `{text}`");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_length = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("missing unit in duration `{text}`")),
            _ => return Err(format!("unknown unit `{unit}` in duration `{text}`")),
        };
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse::<i64>().map_err(|_| invalid())?.into()
        };
        // Digits below a nanosecond can't count, and more than 18 would not fit.
        let fraction = &fraction[..fraction.len().min(18)];
        let part = if fraction.is_empty() {
            0
        } else {
            let digits: i128 = fraction.parse::<i64>().map_err(|_| invalid())?.into();
            digits * scale / 10i128.pow(fraction.len() as u32)
        };
        total += whole * scale + part;
        if total > i64::MAX.into() {
            return Err(invalid());
        }
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

/// Parses a duration of HEALTHCHECK: 0, or at least a millisecond.
pub fn parse_interval(text: &str) -> Result<u64, String> {
    let nanoseconds = parse_duration(text)?;
    if nanoseconds != 0 && i128::from(nanoseconds) < SHORTEST {
        return Err(format!("the duration `{text}` is less than 1ms"));
    }
    u64::try_from(nanoseconds).map_err(|_| format!("invalid duration `{text}`"))
}

/// Tells whether a lower-cased stage name is valid: a letter, then letters, digits, `-`, `_`, `.`.
pub fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// Where a source of ADD comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// The build context.
    Local,
    /// An `http` or `https` URL.
    Http,
    /// A git repository.
    Git,
}

/// Classifies a source as BuildKit does: a URL whose path ends in `.git` is a repository.
pub fn source_kind(text: &str) -> SourceKind {
    let http = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    if let Some(rest) = http {
        let path = rest.split(['#', '?']).next().unwrap_or(rest);
        return if path.ends_with(".git") {
            SourceKind::Git
        } else {
            SourceKind::Http
        };
    }
    if ["git://", "ssh://", "git+ssh://"]
        .iter()
        .any(|s| text.starts_with(s))
    {
        return SourceKind::Git;
    }
    // scp's form, user@host:path.
    let scp = text.split_once(':').is_some_and(|(host, path)| {
        !path.is_empty()
            && host.split_once('@').is_some_and(|(user, host)| {
                let word = |t: &str| {
                    !t.is_empty()
                        && t.bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                };
                word(user) && word(host)
            })
    });
    if scp {
        SourceKind::Git
    } else {
        SourceKind::Local
    }
}

/// Checks that COPY or ADD can take a source from where it is; the error says why not.
pub fn check_source(keyword: Keyword, source: &str) -> Result<(), String> {
    match (keyword, source_kind(source)) {
        (_, SourceKind::Local) | (Keyword::Add, _) => Ok(()),
        (_, SourceKind::Http) => Err("the source of COPY can't be a URL: use ADD".into()),
        (_, SourceKind::Git) => Err("the source of COPY can't be a git repository".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, wanted) in [
            ("80", Ok("80/tcp")),
            ("80/UDP", Ok("80/udp")),
            ("80/", Ok("80/tcp")),
            ("8000-8002/sctp", Ok("8000/sctp 8001/sctp 8002/sctp")),
            ("127.0.0.1:80:8080", Ok("8080/tcp")),
            ("[::1]:80:8080", Ok("8080/tcp")),
            ("80:8080/udp", Ok("8080/udp")),
            ("0", Ok("0/tcp")),
            ("+80", Ok("80/tcp")),
            ("+80-+82/udp", Ok("80/udp 81/udp 82/udp")),
            (":80", Ok("80/tcp")),
            ("80-80", Ok("80/tcp")),
            ("0080", Ok("80/tcp")),
            ("http", Err("invalid port `http`")),
            ("65536", Err("invalid port `65536`")),
            ("++80", Err("invalid port `++80`")),
            ("-80", Err("invalid port `-80`")),
            ("80-", Err("invalid port `80-`")),
            ("1:2:", Err("no port in `1:2:`")),
            ("2-1", Err("the range `2-1` is empty")),
            (
                "80/xyz",
                Err("invalid protocol `xyz`: use tcp, udp or sctp"),
            ),
            ("/tcp", Err("no port in `/tcp`")),
            ("x:80:80", Err("invalid address `x`")),
            (
                "1-2:1-3",
                Err("the ranges `1-3` and `1-2` differ in length"),
            ),
        ] {
            let found = parse_ports(text).map(|p| p.join(" "));
            assert_eq!(
                found,
                wanted.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn signals() {
        for text in [
            "SIGTERM",
            "term",
            "9",
            "sigkill",
            "SIGRTMIN+3",
            "RTMAX-14",
            "64",
        ] {
            assert_eq!(check_signal(text), Ok(()), "{text}");
        }
        for text in ["", "0", "SIGFOO", "SIG", "RTMIN+16", "TERM "] {
            assert!(check_signal(text).is_err(), "{text}");
        }
        for (text, strange) in [("65", true), ("-1", true), ("64", false), ("TERM", false)] {
            assert_eq!(check_signal(text), Ok(()), "{text}");
            assert_eq!(is_strange_signal(text), strange, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("1s", Some(1_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("-1s", Some(-1_000_000_000)),
            ("+1ms", Some(1_000_000)),
            ("1us1µs1μs", Some(3_000)),
            ("", None),
            ("1", None),
            ("s", None),
            (".s", None),
            ("1x", None),
            ("1 s", None),
            ("9999999999h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text).ok(), wanted, "{text}");
        }
        assert_eq!(parse_interval("1ms"), Ok(1_000_000));
        assert!(parse_interval("999us").is_err());
        assert!(parse_interval("-1s").is_err());
    }

    #[test]
    fn sources() {
        use SourceKind::{Git, Http, Local};
        for (text, wanted) in [
            ("a/b", Local),
            ("http://x/y", Http),
            ("https://x/y.git", Git),
            ("https://x/y.git#main:sub", Git),
            ("https://x/y.git?ref=v1", Git),
            ("https://x/y.github", Http),
            ("git@host.example:a/b.git", Git),
            ("git://x/y", Git),
            ("ssh://git@x/y", Git),
            ("x.git", Local),
            ("a:b", Local),
            ("ftp://x/y", Local),
        ] {
            assert_eq!(source_kind(text), wanted, "{text}");
        }
    }
}
