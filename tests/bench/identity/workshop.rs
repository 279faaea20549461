//! The image in which emulated ids are measured.
//!
//! Responsible for a Debian with a compiler, git, Python, packages that are downloaded but not
//! installed, and the scripts of the work; kept for a fortnight, since it needs the package mirror.
//! Must not measure.

use std::path::{Path, PathBuf};

use support::peers::skopeo_copy;
use support::{Base, Registry, World, scratch};

/// What one account installs all the time.
const PACKAGES: &str = "openssh-client curl wget rsync less vim-tiny file zip unzip jq tree htop strace lsof \
    psmisc procps iproute2 iputils-ping netcat-openbsd cron logrotate sudo acl attr dbus tmux sqlite3 \
    nginx-light bzip2 xz-utils";

/// Times one of the other scripts from inside.
const RUN: &str = "#!/bin/sh\n\
    start=$(date +%s%N)\n\
    sh -e /bench/$1 >/tmp/bench.log 2>&1 || { tail -n 3 /tmp/bench.log; exit 1; }\n\
    echo nanoseconds $(($(date +%s%N) - start))\n";

/// The work, by the names of its scripts.
const SCRIPTS: [(&str, &str); 6] = [
    (
        "apt",
        "export DEBIAN_FRONTEND=noninteractive\n\
         apt-get install --yes --no-download --no-install-recommends $(cat /bench/packages)\n",
    ),
    (
        "untar",
        "mkdir /unpacked\ntar -xpf /bench/tree.tar -C /unpacked\n",
    ),
    ("find", "find / -xdev -ls >/dev/null\n"),
    (
        "make",
        "cp -r /bench/project /project\ncd /project\nsh ./configure\nmake -j2\n./program\n",
    ),
    (
        "clone",
        "git clone --quiet --no-hardlinks /bench/repository /clone\n",
    ),
    (
        "import",
        "for i in 1 2 3 4 5 6 7 8; do python3 -B /bench/imports.py; done\n",
    ),
];

/// Imports every module of the standard library that has no effects.
const IMPORTS: &str = "import importlib, sys\n\
    for name in sorted(sys.stdlib_module_names):\n\
    \x20   if name.startswith('_') or name in ('antigravity', 'this', 'idlelib', 'tkinter', 'turtle', 'turtledemo'):\n\
    \x20       continue\n\
    \x20   try:\n\
    \x20       importlib.import_module(name)\n\
    \x20   except Exception:\n\
    \x20       pass\n";

/// Makes what the scripts work on: an archive of 50,000 files of forty users, a project with 240
/// checks and 60 files, a repository.
const MAKE: &str = r#"
import io, os, subprocess, tarfile

with tarfile.open('/bench/tree.tar', 'w', format=tarfile.GNU_FORMAT) as archive:
    def add(name, kind, mode, owner, data=b''):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.mtime = kind, mode, len(data), 1600000000
        entry.uid, entry.gid = owner, owner
        archive.addfile(entry, io.BytesIO(data))
    for d in range(500):
        add(f'd{d}', tarfile.DIRTYPE, 0o2755 if d % 5 else 0o700, d % 40 * 25)
        for f in range(99):
            number = d * 99 + f
            add(f'd{d}/f{f}', tarfile.REGTYPE, [0o644, 0o600, 0o4755, 0o640][number % 4],
                number % 40 * 25, b'%d\n' % number)

os.makedirs('/bench/project')
os.chdir('/bench/project')
with open('configure', 'w') as script:
    script.write('set -e\n: >config.h\n')
    for n in range(160):
        script.write(f'''printf 'checking for thing {n}... '
if test -r /usr/include/thing{n}.h; then ac=yes; else ac=`echo no | sed 's/x/y/'`; fi
echo "$ac"
case `expr {n} % 2`-$ac in 1-no) echo '#define NO_{n} 1' >>config.h ;; *) rm -f conftest* ;; esac
''')
    headers = 'stdio stdlib string unistd fcntl errno signal time math ctype'.split()
    for n in range(80):
        script.write(f'''printf 'checking for use {n} of {headers[n % 10]}.h... '
cat >conftest.c <<EOF
#include <{headers[n % 10]}.h>
int use{n}(void) {{ return {n}; }}
EOF
if cc -c conftest.c -o conftest.o 2>conftest.err; then echo yes; echo '#define USE_{n} 1' >>config.h; else echo no; fi
rm -f conftest*
''')
for n in range(60):
    with open(f'part{n}.c', 'w') as source:
        source.write(f'#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include "config.h"\n')
        for m in range(20):
            source.write(f'int f{n}_{m}(int x) {{ int s = 0; for (int i = 0; i < x; i++) s += i * {m} ^ x; return s; }}\n')
with open('main.c', 'w') as source:
    source.write('int f0_0(int);\nint main(void) { return f0_0(0); }\n')
with open('Makefile', 'w') as rules:
    objects = ' '.join(f'part{n}.o' for n in range(60)) + ' main.o'
    rules.write(f'program: {objects}\n\tcc -o $@ {objects}\n%.o: %.c config.h\n\tcc -O1 -c $< -o $@\n')

os.makedirs('/bench/repository')
os.chdir('/bench/repository')
for n in range(3000):
    os.makedirs(f'dir{n % 60}', exist_ok=True)
    with open(f'dir{n % 60}/file{n}', 'w') as file:
        file.write(f'{n}\n' * (n % 50 + 1))
git = ['git', '-c', 'user.name=bench', '-c', 'user.email=bench@example.org']
subprocess.run(['git', 'init', '--quiet'], check=True)
subprocess.run([*git, 'add', '.'], check=True)
subprocess.run([*git, 'commit', '--quiet', '-m', 'all'], check=True)
"#;

/// Returns the image's name and root's unpacked copy of it.
pub(super) fn make(
    program: &Path,
    subids: &World,
    root: &World,
) -> Result<(String, PathBuf), String> {
    let registry = Registry::shared()?;
    let base = registry.base(Base::Debian)?;
    let name = format!("{}/workshop:1", registry.host());
    let archive = scratch::fixtures().join("workshop.oci");
    // Older than a fortnight, its packages are no longer those of the mirror.
    let fresh = std::fs::metadata(&archive)
        .and_then(|meta| meta.modified())
        .is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() < 14 * 86400));
    write_context(subids, &base);
    if !fresh {
        eprintln!("an image with a compiler, git and Python …");
        let made = subids
            .command(program)
            .args([
                "build",
                "--progress=plain",
                "--output=type=oci,dest=workshop.oci",
            ])
            .arg("workshop")
            .timeout(std::time::Duration::from_secs(1200))
            .run();
        if made.code != Some(0) {
            return Err(made.all());
        }
        std::fs::copy(subids.path("workshop.oci"), &archive).map_err(|error| error.to_string())?;
    }
    skopeo_copy(
        root,
        &format!("oci-archive:{}", archive.display()),
        &format!("docker://{name}"),
    );
    // Its layer with the scripts is made anew, so that they can be changed.
    subids.write(
        "scripts/Dockerfile",
        format!("FROM {name}\nCOPY run apt untar find make clone import imports.py /bench/\n"),
    );
    subids
        .command("sh")
        .args(["-c", "cp workshop/[!D]* scripts/"])
        .ok();
    let name = format!("{}/workshop:2", registry.host());
    subids
        .command(program)
        .args([
            "build",
            "--progress=plain",
            "--push",
            "--tag",
            &name,
            "scripts",
        ])
        .ok();
    root.write("tree/Dockerfile", format!("FROM {name}\n"));
    root.command(program)
        .args(["build", "--progress=plain", "--isolation=host"])
        .args(["--output=type=tar,dest=tree.tar", "tree"])
        .ok();
    root.command("sh")
        .args([
            "-c",
            "mkdir unpacked && tar -xpf tree.tar -C unpacked && rm tree.tar",
        ])
        .ok();
    Ok((name, root.path("unpacked")))
}

fn write_context(world: &World, base: &str) {
    world.write("workshop/packages", PACKAGES);
    world.write("workshop/make.py", MAKE);
    world.write("workshop/imports.py", IMPORTS);
    world.write("workshop/run", RUN);
    world.set_mode("workshop/run", 0o755);
    for (name, script) in SCRIPTS {
        world.write(&format!("workshop/{name}"), script);
    }
    world.write(
        "workshop/Dockerfile",
        format!(
            "FROM {base}\n\
             ENV DEBIAN_FRONTEND=noninteractive\n\
             RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make git python3\n\
             COPY . /bench/\n\
             RUN rm -f /etc/apt/apt.conf.d/docker-clean && apt-get install --yes --no-install-recommends --download-only $(cat /bench/packages)\n\
             RUN python3 /bench/make.py\n"
        ),
    );
}
