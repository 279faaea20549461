//! Directories for one run of the tests, and their removal.
//!
//! Responsible for a place that every account can reach, for a janitor that cleans it up however
//! the test program ends, and for the programs under test in it. Must not know who uses it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::user::repository;

/// The shell that ends servers and removes the directory, once its input ends: when this program
/// has, in whatever way.
static JANITOR: Mutex<Option<std::process::ChildStdin>> = Mutex::new(None);

/// Returns the directory of this run: readable by everybody, gone after the program's end.
#[expect(
    clippy::zombie_processes,
    reason = "the janitor outlives this program; that is its purpose"
)]
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = tempfile::Builder::new()
            .prefix("sandcrab-e2e-")
            .tempdir()
            .expect("make a temporary directory")
            .keep();
        open_to_all(&directory);
        // Each line names a server to be ended. A store has files of subordinate ids, which only a
        // user namespace with these ids may remove. KEEP leaves all for a look.
        let script = r#"
            pids=; while read -r pid; do pids="$pids $pid"; done
            [ -z "$pids" ] || kill -9 $pids
            # Peers that run as root leave mounts; the innermost comes last in the list.
            grep -o " $1/[^ ]*" /proc/self/mountinfo | tac | xargs -r umount --lazy
            [ -n "$KEEP" ] || rm -rf "$1" 2>/dev/null || unshare -r --map-auto rm -rf "$1""#;
        let mut janitor = Command::new("sh")
            .args(["-c", script, "janitor"])
            .arg(&directory)
            .env(
                "KEEP",
                std::env::var_os("SANDCRAB_TEST_KEEP").unwrap_or_default(),
            )
            // Ctrl-C, too, is for the tests and not for their janitor.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a shell");
        *JANITOR.lock().expect("nobody panics with it") = janitor.stdin.take();
        directory
    })
}

/// Has the process ended together with this program.
pub fn end_with_us(pid: u32) {
    directory();
    let mut janitor = JANITOR.lock().expect("nobody panics with it");
    let input = janitor
        .as_mut()
        .expect("the directory comes with its janitor");
    writeln!(input, "{pid}").expect("tell the janitor");
}

/// Makes a directory that everybody may read.
///
/// # Panics
/// When it can't be made.
pub fn open_to_all(directory: &Path) {
    std::fs::create_dir_all(directory).expect("make a directory");
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))
        .expect("open a directory to all");
}

/// Returns the directory for what outlives one run, such as a base image that takes long to make.
pub fn fixtures() -> PathBuf {
    let directory = repository().join("target/fixtures");
    std::fs::create_dir_all(&directory).expect("make target/fixtures");
    directory
}

/// Returns the `sandcrab` program, where every account may execute it. `SANDCRAB` names another
/// one than that which cargo built beside the tests.
///
/// # Panics
/// When there is none.
pub fn sandcrab() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = std::env::var_os("SANDCRAB").map_or_else(
            || {
                let tests = std::env::current_exe().expect("a path of its own");
                tests
                    .ancestors()
                    .map(|directory| directory.join("sandcrab"))
                    .find(|path| path.is_file())
                    .expect("`cargo build --package sandcrab-executor` makes the program")
            },
            PathBuf::from,
        );
        install(&built)
    })
}

/// Copies a program to where every account may execute it.
///
/// # Panics
/// When it can't be copied.
pub fn install(program: &Path) -> PathBuf {
    let place = directory().join("bin");
    open_to_all(&place);
    let copy = place.join(program.file_name().expect("a program has a name"));
    std::fs::copy(program, &copy)
        .unwrap_or_else(|error| panic!("copy `{}`: {error}", program.display()));
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))
        .expect("make the program executable");
    copy
}
