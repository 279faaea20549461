//! The tree that a sequence begins with.
//!
//! Responsible for making it as root, for taking it away, and for what a sequence may have done to
//! the directories above. Invariant: a sequence finds nothing of an earlier one.

use std::fs;
use std::io::Result;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::call::must;
use crate::job::Job;
use crate::paths::{MODES, NAMES, plain};
use crate::random::Random;

/// The program of this process, as sequences execute it.
pub(crate) const PROGRAM: &str = "/random-program";

/// Makes a job's tree.
pub(crate) fn prepare(job: &Job) -> Result<()> {
    let mut random = Random::new(job.seed, &[job.sequence, u64::MAX - 1]);
    let tree = format!("{}/w", job.place());
    fs::create_dir_all(&tree)?;
    let tree = Path::new(&tree);
    for name in NAMES {
        if random.percent(75) {
            entry(job, &tree.join(name), &mut random, 0)?;
        }
    }
    if random.percent(12) {
        let copy = tree.join("x");
        fs::copy(PROGRAM, &copy)?;
        let (uid, gid) = (owner(&mut random), owner(&mut random));
        chown(&copy, Some(uid), Some(gid))?;
        let mode = random.pick(&[0o755, 0o4755, 0o2755, 0o6755, 0o4711, 0o6750]) & mask(job);
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
    }
    finish(
        job,
        tree,
        &mut random,
        &[0o777, 0o777, 0o1777, 0o755, 0o2777, 0o770, 0o711],
    )
}

fn entry(job: &Job, path: &Path, random: &mut Random, depth: usize) -> Result<()> {
    match random.below(20) {
        0..7 if depth < 2 => {
            fs::create_dir(path)?;
            for name in &NAMES[..3] {
                if random.percent(35) {
                    entry(job, &path.join(name), random, depth + 1)?;
                }
            }
        }
        7..11 => {
            symlink(plain(random), path)?;
            return lchown(path, Some(owner(random)), Some(owner(random)));
        }
        11 | 12 => node(path, i64::from(libc::S_IFIFO), 0)?,
        13 => drop(UnixListener::bind(path)?),
        14 if job.with("wide") => node(path, i64::from(libc::S_IFCHR), 5 << 8 | 77)?,
        15 => {
            // Another name for a neighbour, where that is a file.
            let neighbour = path.with_file_name(random.pick(&NAMES));
            if fs::hard_link(neighbour, path).is_ok() {
                return Ok(());
            }
            fs::write(path, "")?;
        }
        _ => fs::write(
            path,
            "0123456789".get(..random.below(11)).unwrap_or_default(),
        )?,
    }
    finish(job, path, random, &MODES)
}

fn node(path: &Path, kind: i64, device: i64) -> Result<()> {
    let mut path = path.as_os_str().as_bytes().to_vec();
    path.push(0);
    let arguments = [path.as_ptr() as i64, kind | 0o644, device, 0, 0, 0];
    must(libc::SYS_mknod, arguments).map(drop)
}

fn finish(job: &Job, path: &Path, random: &mut Random, modes: &[i64]) -> Result<()> {
    lchown(path, Some(owner(random)), Some(owner(random)))?;
    let mode = u32::try_from(random.pick(modes)).unwrap_or_default() & mask(job);
    // Otherwise hardly anything could be reached.
    let mode = if path.is_dir() && random.percent(60) {
        mode | 0o755
    } else {
        mode
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// As `Run::mode`.
fn mask(job: &Job) -> u32 {
    if job.with("wide") { 0o1777 } else { 0o7777 }
}

fn owner(random: &mut Random) -> u32 {
    random.pick(&[0, 0, 1, 1, 33, 33, 1000, 1000, 65534])
}

/// Makes the directories above the trees what they were.
pub(crate) fn restore(job: &Job) -> Result<()> {
    fs::create_dir_all("/r")?;
    if !job.kept {
        fs::create_dir_all(job.place())?;
    }
    let place = job.place();
    let above = place.get(..2).unwrap_or("/");
    for path in ["/", above, &place] {
        let now = fs::symlink_metadata(path)?;
        if (now.uid(), now.gid()) != (0, 0) {
            chown(path, Some(0), Some(0))?;
        }
        if now.mode() & 0o7777 != 0o755 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        for name in ["user.a", "user.b", "security.capability"] {
            let (path, name) = (format!("{path}\0"), format!("{name}\0"));
            let arguments = [path.as_ptr() as i64, name.as_ptr() as i64, 0, 0, 0, 0];
            // There is none, mostly.
            drop(must(libc::SYS_lremovexattr, arguments));
        }
    }
    Ok(())
}

/// Takes away what a sequence left, but for a tree that is kept.
pub(crate) fn clean(job: &Job) -> Result<()> {
    let place = job.place();
    let above = place.get(..2).unwrap_or("/");
    if !job.kept {
        fs::remove_dir_all(&place)?;
    }
    for directory in ["/", above] {
        for entry in fs::read_dir(directory)?.flatten() {
            let name = entry.file_name();
            // All that `Run::path` may name there.
            let ours = NAMES.iter().any(|ours| name == *ours);
            let odd = ["x", "none", "aa", "aaa"].iter().any(|odd| name == *odd);
            if ours || odd || name.as_bytes().starts_with(b"nnn") {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
