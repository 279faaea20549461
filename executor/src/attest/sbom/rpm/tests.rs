//! Databases that the tools of their formats write.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Makes a header of a package, with so many bytes of something else.
fn blob(name: &str, epoch: Option<u32>, filling: usize) -> Vec<u8> {
    let mut index = Vec::new();
    let mut data = vec![0; filling];
    let mut add = |tag: u32, kind: u32, value: &[u8]| {
        for number in [tag, kind, u32::try_from(data.len()).expect("small"), 1] {
            index.extend(number.to_be_bytes());
        }
        data.extend(value);
    };
    let name = format!("{name}\0");
    add(NAME, 6, name.as_bytes());
    add(VERSION, 6, b"5.2\0");
    add(RELEASE, 6, b"1.fc39\0");
    add(LICENSE, 6, b"GPL-3.0-or-later\0");
    add(ARCH, 6, b"x86_64\0");
    add(SOURCE, 6, b"src-5.2-1.fc39.src.rpm\0");
    if let Some(epoch) = epoch {
        add(EPOCH, 4, &epoch.to_be_bytes());
    }
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small").to_be_bytes();
    let entries = u32::try_from(index.len() / 16)
        .expect("small")
        .to_be_bytes();
    [&entries[..], &length(&data), &index, &data].concat()
}

/// Makes packages of all sizes; their names, and their headers.
fn samples() -> Vec<(String, Vec<u8>)> {
    let sizes = [
        0, 10, 300, 480, 900, 3_900, 4_050, 4_060, 4_096, 9_000, 70_000,
    ];
    let make = |n: usize| {
        let name = format!("package-{n:03}");
        let blob = blob(&name, None, sizes[n % sizes.len()] + n);
        (name, blob)
    };
    (0..300).map(make).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Runs a tool with a script; `false` when it is not there.
fn tool(argv: &[&str], script: &str) -> bool {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).stdin(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("SKIP: {} is not installed", argv[0]);
        return false;
    };
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("write");
    drop(stdin);
    assert!(child.wait().expect("wait").success(), "{argv:?}");
    true
}

fn fedora() -> Distribution {
    Distribution::parse("ID=fedora\nVERSION_ID=39\n")
}

fn assert_samples(name: &str, path: &Path) {
    let file = File::open(path).expect("open");
    let packages = read(name, &file, &fedora()).expect("packages");
    let mut names: Vec<String> = packages.into_iter().map(|p| p.name).collect();
    names.sort_unstable();
    let wanted: Vec<String> = samples().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, wanted);
    // Cut anywhere, and with any byte changed, it is read or refused.
    let bytes = std::fs::read(path).expect("read");
    let mangled = path.with_extension("mangled");
    for n in 0..40_usize {
        let mut copy = bytes.clone();
        let at = (n * 7919) % bytes.len().min(8_192);
        copy[at] ^= 0xff;
        if n % 4 == 0 {
            copy.truncate((n * 104_729) % bytes.len());
        }
        std::fs::write(&mangled, copy).expect("write");
        drop(read(name, &File::open(&mangled).expect("open"), &fedora()));
    }
}

#[test]
fn headers() {
    let package = header(&blob("bash", Some(2), 7), &fedora());
    let package = package.expect("valid").expect("a package");
    assert_eq!(
        package.purl,
        "pkg:rpm/fedora/bash@5.2-1.fc39?arch=x86_64&distro=fedora-39&epoch=2&upstream=src-5.2-1.fc39.src.rpm"
    );
    assert_eq!(package.version, "2:5.2-1.fc39");
    assert_eq!(package.license.as_deref(), Some("GPL-3.0-or-later"));
    assert_eq!(header(&blob("gpg-pubkey", None, 0), &fedora()), Ok(None));
    let whole = blob("bash", Some(2), 7);
    for end in 0..whole.len() - 5 {
        // Whatever is there, nothing is made up.
        if let Ok(Some(package)) = header(&whole[..end], &fedora()) {
            assert_eq!(package.name, "bash");
        }
    }
    assert!(header(&[0xff; 64], &fedora()).is_err());
}

#[test]
fn sqlite_of_all_page_sizes() {
    for size in [512, 4_096, 65_536] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("rpmdb.sqlite");
        let mut script = format!(
            "PRAGMA page_size={size};\nCREATE TABLE 'Name' (key TEXT);\n\
             CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);\nBEGIN;\n"
        );
        for (_, blob) in samples() {
            script += &format!("INSERT INTO Packages(blob) VALUES (x'{}');\n", hex(&blob));
        }
        script += "COMMIT;\n";
        if !tool(&["sqlite3", "-batch", &path.display().to_string()], &script) {
            return;
        }
        assert_samples("rpmdb.sqlite", &path);
    }
}

#[test]
fn berkeley_hash_tables() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("Packages");
    let loaded = Command::new("perl").args(["-MDB_File", "-e", "1"]).output();
    if !loaded.is_ok_and(|output| output.status.success()) {
        println!("SKIP: perl has no DB_File");
        return;
    }
    let mut script = format!(
        "use DB_File; use Fcntl; tie my %h, 'DB_File', '{}', O_RDWR|O_CREAT, 0644, $DB_HASH or die;\n\
         $h{{pack('L', 0)}} = pack('L', 300);\n",
        path.display()
    );
    // A small value is in the page itself, where rpm has none of a package.
    let large = samples()
        .into_iter()
        .map(|(name, _)| blob(&name, None, 20_000));
    for (n, blob) in large.enumerate() {
        script += &format!(
            "$h{{pack('L', {})}} = pack('H*', '{}');\n",
            n + 1,
            hex(&blob)
        );
    }
    assert!(tool(&["perl"], &script));
    assert_samples("Packages", &path);
}

#[test]
fn ndb_as_it_is_documented() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("Packages.db");
    let (pages, samples) = (2_u32, samples());
    let mut slots = [&b"RpmP"[..], &[0; 8], &pages.to_le_bytes(), &[0; 16]].concat();
    let mut blobs = Vec::new();
    for (n, (_, blob)) in samples.iter().enumerate() {
        let number = (u32::try_from(n).expect("small") + 1).to_le_bytes();
        let block = pages * 256 + u32::try_from(blobs.len() / 16).expect("small");
        slots.extend([&b"Slot"[..], &number, &block.to_le_bytes(), &[0; 4]].concat());
        let length = u32::try_from(blob.len()).expect("small").to_le_bytes();
        blobs.extend([&b"BlbS"[..], &number, &[0; 4], &length, blob].concat());
        blobs.resize(blobs.len().next_multiple_of(16), 0);
    }
    while slots.len() < pages as usize * 4_096 {
        slots.extend([&b"Slot"[..], &[0; 12]].concat());
    }
    std::fs::write(&path, [slots, blobs].concat()).expect("write");
    assert_samples("Packages.db", &path);
}
